// States transposed: out[head, y, x] = x[head, x, y].
//
// 0 x: array<f32>, x[(head*inner + i)*outer + o]        1 out: array<f32>, out[(head*outer + o)*inner + i]
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let i = item % p.inner;
        let o = item / p.inner % p.outer;
        let head = item / (p.inner * p.outer);
        out[item] = x[(head * p.inner + i) * p.outer + o];
    }
}
