// Sums of log decays over tokens, a block at a time: total[o, b, c] = factor * sum over the tokens t of block b of g[o, t, c], each
// clamped to `least`. Further passes sum the blocks' sums, so that every sum is short.
//
// 0 g: array<f32>, g[g_offset + (o * stride + t) * width + c]
// 1 total: array<f32>, total[total_offset + (o * blocks + b) * width + c]
struct Params {
    tokens: u32,
    block: u32,
    stride: u32,
    width: u32,
    blocks: u32,
    count: u32,
    g_offset: u32,
    total_offset: u32,
    groups: u32,
    factor: f32,
    least: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> total: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let block = at / p.width;
        let column = at % p.width;
        if (block < p.count) {
            let outer = block / p.blocks;
            let first = block % p.blocks * p.block;
            var sum = 0.0;
            for (var t = first; t < min(first + p.block, p.tokens); t++) {
                sum += max(g[p.g_offset + (outer * p.stride + t) * p.width + column], p.least);
            }
            total[p.total_offset + at] = p.factor * sum;
        }
    }
}
