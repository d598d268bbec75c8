// Vectors by what belongs to each of their elements: x_e ← s(e mod width) x_e, the elements one after another.
//
// 0 values: array<f32>, what s is made of        1 x: array<f32>, x[e - the step's first element]
struct Params {
    count: u32,
    start: u32,
    width: u32,
    groups: u32,
    first: u32,
    middle: u32,
    last: u32,
    a: f32,
    shift: f32,
    gain: f32,
    power: f32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let own = group_index(group, grid);
    if (own < p.groups) {
        for (var k = 0u; k < 4u; k++) {
            let e = own * 256u + k * 64u + lane;
            if (e < p.count) {
                x[e] *= factor((p.start + e) % p.width);
            }
        }
    }
}
