// Random numbers: number i of the stream of a key from element `first` on, whatever its part makes of the word.
//
// 0 numbers: array<Drawn>
struct Params {
    key_low: u32,
    key_high: u32,
    first_low: u32,
    first_high: u32,
    count: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> numbers: array<Drawn>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * 64u + lane;
    if (i < p.count) {
        let counter = threefry_counter(vec2u(p.first_low, p.first_high), i);
        numbers[i] = drawn(threefry(vec2u(p.key_low, p.key_high), counter).x);
    }
}
