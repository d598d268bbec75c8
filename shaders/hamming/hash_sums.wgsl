// Sums of blocks of 64 numbers, in order; applied until one is left of a set, rounding grows with the logarithm of the length.
//
// 2 sums: array<f32>, sums[set*blocks + block]
struct Params {
    sets: u32,
    count: u32,
    blocks: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let item = (p.first + index) * 64u + lane;
    if (index < p.groups && item < p.sets * p.blocks) {
        let begin = item % p.blocks * 64u;
        var sum = 0.0;
        for (var n = begin; n < min(begin + 64u, p.count); n++) {
            sum += summand(item / p.blocks * p.count + n);
        }
        sums[item] = sum;
    }
}
