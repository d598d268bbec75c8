// Copies rows of words: row n of `copied` is row n / repeat of `source`.
//
// 0 source: array<u32>, from[(n / repeat) * from_stride + i]        1 copied: array<u32>, copied[n * to_stride + i]        i < words
struct Params {
    rows: u32,
    words: u32,
    from_stride: u32,
    to_stride: u32,
    repeat: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> copied: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        for (var n = 0u; n < 16u; n++) {
            let at = (index * 16u + n) * 64u + lane;
            let row = at / p.words;
            if (row < p.rows) {
                copied[row * p.to_stride + at % p.words] = source[row / p.repeat * p.from_stride + at % p.words];
            }
        }
    }
}
