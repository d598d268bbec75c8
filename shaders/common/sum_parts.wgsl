// Sums of partial sums, in order: out_i = (out_i, with `accumulate`) + sum over parts.
//
// 0 sums: array<f32>, sums[(set*parts + part)*block + first + i]        1 out: array<f32>, out[set*count + i]
struct Params {
    sets: u32,
    parts: u32,
    block: u32,
    first: u32,
    count: u32,
    accumulate: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * 64u + lane;
    if (i < p.sets * p.count) {
        var sum = 0.0;
        if (p.accumulate == 1u) {
            sum = out[i];
        }
        for (var part = 0u; part < p.parts; part++) {
            sum += sums[(i / p.count * p.parts + part) * p.block + p.first + i % p.count];
        }
        out[i] = sum;
    }
}
