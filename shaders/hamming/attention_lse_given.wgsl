// 2 lse: array<f32>, lse[lse_offset + row]
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;

fn put_lse(row: u32, x: f32) {
    lse[p.lse_offset + row] = x;
}
