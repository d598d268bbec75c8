// Square matrices with ones on the diagonal.
//
// 0 matrices: array<f32>, matrices[n * width * width + row * width + column]
struct Params {
    elements: u32,
    width: u32,
    // Of the first element in its matrix.
    phase: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> matrices: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        for (var n = 0u; n < 4u; n++) {
            let at = (index * 4u + n) * 64u + lane;
            if (at < p.elements) {
                let place = (p.phase + at) % (p.width * p.width);
                matrices[at] = select(0.0, 1.0, place / p.width == place % p.width);
            }
        }
    }
}
