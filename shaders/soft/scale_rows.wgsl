// The symmetric normalisation s = (P 1)^(-1/2).
//
// 1 rows: array<f32>, as `row_sums` leaves them
@group(0) @binding(1) var<storage, read> rows: array<f32>;

fn row_scale(head: u32, a: u32) -> f32 {
    return inverseSqrt(rows[head * p.r_stride + a]);
}
