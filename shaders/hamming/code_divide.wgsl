// Means from the sums of one chunk: o = n / Z.
//
// 0 sums: array<f32>, sums[(list*(end - begin) + i - begin)*(value + 1) + c]      1 out: array<f32>, out[out_offset + (list*len + i)*value + c]
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let reader = (p.first + index) * (LANES / COLUMNS) + lane / COLUMNS;
    let list = reader / (p.end - p.begin);
    if (index < p.groups && list < p.lists) {
        let i = p.begin + reader % (p.end - p.begin);
        let at = reader * (p.value + 1u);
        let to = p.out_offset + (list * p.len + i) * p.value;
        for (var c = lane % COLUMNS; c < p.value; c += COLUMNS) {
            out[to + c] = sums[at + c] / sums[at + p.value];
        }
    }
}
