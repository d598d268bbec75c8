// The popcount roof: x <- x + popcount(x xor key) in registers, ROUNDS * 16 times on 12 independent accumulators: what a distance
// does with a word once it has it.
//
// 0 sums: array<u32>, sums[i] of invocation i
struct Params {
    key: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let key = vec4u(p.key);
    var x = vec4u(lid, 1u, 2u, 3u);
    var y = x + vec4u(4u);
    var z = x + vec4u(8u);
    for (var round = 0u; round < ROUNDS; round++) {
        for (var n = 0u; n < 16u; n++) {
            x += countOneBits(x ^ key);
            y += countOneBits(y ^ key);
            z += countOneBits(z ^ key);
        }
    }
    let index = group_index(group, grid);
    if (index < p.groups) {
        let sum = x + y + z;
        sums[index * 64u + lid] = sum.x + sum.y + sum.z + sum.w;
    }
}
