// Packing: bit i of row r is 1 where x[r, i] > t_i (or >=, or <, by COMPARE); NaN on either side gives 0.
//
// 0 x: array<u32>, x[x_offset + r*dims + i], elements that `element` of a part reads as bits of f32
// 1 packed: array<u32>, packed[words_offset + r*words + w]      2 thresholds: array<u32>, one a dimension (with threshold_row)
//
// Compared as integers: f32 comparisons may flush denormals or assume that there is no NaN.
struct Params {
    x_offset: u32,
    words_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    dims: u32,
    words: u32,
    threshold: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;

// Order of f32 values as order of words; -0 is 0.
fn key(bits: u32) -> u32 {
    let u = select(bits, 0u, bits == 0x80000000u);
    return select(u | 0x80000000u, ~u, (u >> 31u) == 1u);
}

fn number(bits: u32) -> bool {
    return (bits & 0x7fffffffu) <= 0x7f800000u;
}

fn bit(value: u32, limit: u32) -> bool {
    let a = key(value);
    let b = key(limit);
    var holds = a > b;
    if (COMPARE == 1u) {
        holds = a >= b;
    }
    if (COMPARE == 2u) {
        holds = a < b;
    }
    return holds && number(value) && number(limit);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let begin = n % p.words * 32u;
        let row = p.first_row + n / p.words;
        let start = p.x_offset + row * p.dims + begin;
        let len = min(32u, p.dims - begin);
        var word = 0u;
        for (var i = 0u; i < len; i++) {
            if (bit(element(start + i), limit(begin + i))) {
                word |= 1u << i;
            }
        }
        packed[p.words_offset + row * p.words + n % p.words] = word;
    }
}
