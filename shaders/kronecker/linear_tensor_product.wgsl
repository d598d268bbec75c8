// Products of states, entry by entry: out = a ∘ b, or out = out ∘ b: see the other part.
//
// 0 a: array<f32>        1 b: array<f32>        2 out: array<f32>
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        out[item] = other(item) * b[item];
    }
}
