// E2M1 codes to numbers, an invocation for eight of them: x[i] = value(code[i]) S, NaN where the scale is.
//
// 0 codes: array<u32>, code i in bits 4 (i % 8) of word i/8      2 scales: array<u32>, of block b in byte b % 4 of word b/4
// 3 x: array<u32>, bits of x[i]
struct Params {
    words: u32,
    first: u32,
    nan: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<u32>;

// 0, 1/2, 1, 3/2, 2, 3, 4, 6.
fn number(code: u32) -> f32 {
    let size = code & 7u;
    let exponent = max(size >> 1u, 1u);
    let significand = (size & 1u) + select(0u, 2u, size >= 2u);
    let value = f32(significand) * bitcast<f32>((exponent + 125u) << 23u);
    return select(value, -value, (code & 8u) != 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let word = p.first + group_index(group, grid) * 64u + lane;
    if (word < p.words) {
        let block = word * 8u / BLOCK;
        let scale_code = (scales[block / 4u] >> (block % 4u * 8u)) & 255u;
        let scale = value_of(scale_code);
        let all = codes[word];
        for (var n = 0u; n < 8u; n++) {
            let value = number(all >> (4u * n)) * scale.value * scale.lower;
            x[word * 8u + n] = select(bitcast<u32>(value), p.nan, scale_code == NAN_CODE);
        }
    }
}
