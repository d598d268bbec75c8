// Bits that are 1 in each code.
//
// 0 packed: array<u32>, packed[words_offset + r*words + w]      1 counts: array<u32>, counts[counts_offset + r]
struct Params {
    words_offset: u32,
    counts_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    words: u32,
    last: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> packed: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let row = p.first_row + n;
        let start = p.words_offset + row * p.words;
        var sum = countOneBits(packed[start + p.words - 1u] & p.last);
        for (var w = 0u; w + 1u < p.words; w++) {
            sum += countOneBits(packed[start + w]);
        }
        counts[p.counts_offset + row] = sum;
    }
}
