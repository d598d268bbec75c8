// Of the queries from `begin` to `end` of each list: from weighted sums n and their weight Z to the gradients of those,
// G = dO / Z and -s with s = (dO . n) / Z^2, in place.
//
// 0 grad: array<f32>, grad[own_offset + query*value + c]      1 sums: array<f32>, sums[query*(value + 1) + c], Z last
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let list = place / (p.end - p.begin);
    if (index < p.groups && list < p.lists) {
        let query = list * p.len + p.begin + place % (p.end - p.begin);
        let at = query * (p.value + 1u);
        let from_at = p.own_offset + query * p.value;
        let z = sums[at + p.value];
        var product = 0.0;
        for (var c = 0u; c < p.value; c++) {
            product += grad[from_at + c] * (sums[at + c] / z);
        }
        for (var c = 0u; c < p.value; c++) {
            sums[at + c] = grad[from_at + c] / z;
        }
        sums[at + p.value] = -product / z;
    }
}
