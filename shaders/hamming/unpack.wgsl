// Unpacking: x[r, i] = high where bit i of row r is 1, else low.
//
// 0 packed: array<u32>, packed[words_offset + r*words + i/32]      1 x: array<f32>, x[x_offset + r*bits + i]
struct Params {
    words_offset: u32,
    x_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    bits: u32,
    words: u32,
    low: f32,
    high: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> packed: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let i = n % p.bits;
        let row = p.first_row + n / p.bits;
        let word = packed[p.words_offset + row * p.words + i / 32u];
        x[p.x_offset + row * p.bits + i] = select(p.low, p.high, ((word >> (i % 32u)) & 1u) == 1u);
    }
}
