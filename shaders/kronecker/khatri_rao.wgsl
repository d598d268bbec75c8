// The Khatri-Rao product of what the factors before made and the next factor: out[(i, j), t] = left[i, t] right[j, t].
//
// 1 right: array<f32>, right[j*left_columns + t]      2 out: array<f32>, out[out_offset + (i*rows + j)*left_columns + t]
struct Params {
    left_offset: u32,
    out_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    rows: u32,
    left_columns: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let per_row = p.rows * p.left_columns;
        let i = p.first_row + n / per_row;
        out[p.out_offset + p.first_row * per_row + n] = left(i, n % p.left_columns) * right[n % per_row];
    }
}
