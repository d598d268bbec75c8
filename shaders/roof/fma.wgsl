// The arithmetic roof: x <- factor * x + addend in registers, ROUNDS * 16 times on 12 independent accumulators. That many
// chains hide the latency of a multiply-add, and with both constants they fit 16 registers.
//
// 0 sums: array<f32>, sums[i] of invocation i
struct Params {
    factor: f32,
    addend: f32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let factor = vec4f(p.factor);
    let addend = vec4f(p.addend);
    var x = vec4f(f32(lid), 1.0, 2.0, 3.0);
    var y = x + vec4f(4.0);
    var z = x + vec4f(8.0);
    for (var round = 0u; round < ROUNDS; round++) {
        for (var n = 0u; n < 16u; n++) {
            x = fma(x, factor, addend);
            y = fma(y, factor, addend);
            z = fma(z, factor, addend);
        }
    }
    let index = group_index(group, grid);
    if (index < p.groups) {
        sums[index * 64u + lid] = dot(x + y + z, vec4f(1.0));
    }
}
