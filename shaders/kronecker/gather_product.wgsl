// Rows of a transformed factor, drawn at random, times what the factors before it made of the same samples:
//
//   out[r, (s, c)] = left[r, s] · scale y[i_r, c]      or, where columns are MATCHED, out[r, c] = left[r, c] · scale y[i_r, c]
//
// i_r is the top bits of the word of element r.
//
// 1 y: array<f32>, y[i*columns + c]      2 out: array<f32>, out[out_offset + r*out_columns + s*columns + c]
struct Params {
    key_low: u32,
    key_high: u32,
    left_offset: u32,
    out_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    columns: u32,
    left_columns: u32,
    shift: u32,
    mask: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let out_columns = select(p.left_columns * p.columns, p.columns, MATCHED);
        let r = p.first_row + n / out_columns;
        let column = n % out_columns;
        let s = select(column / p.columns, column, MATCHED);
        let word = threefry(vec2u(p.key_low, p.key_high), vec2u(r, 0u)).x;
        let i = (word >> p.shift) & p.mask;
        out[p.out_offset + p.first_row * out_columns + n] = left(r, s) * (p.scale * y[i * p.columns + column % p.columns]);
    }
}
