// What reaches P through s.
//
// 2 terms: array<f32>, as `row_terms` leaves them
@group(0) @binding(2) var<storage, read> terms: array<f32>;

fn row_term(head: u32, a: u32) -> f32 {
    return terms[head * p.r_stride + a];
}
