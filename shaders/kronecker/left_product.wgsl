// The product of the factors before.
//
// 0 product: array<f32>, product[left_offset + r*left_columns + s]
@group(0) @binding(0) var<storage, read> product: array<f32>;

fn left(r: u32, s: u32) -> f32 {
    return product[p.left_offset + r * p.left_columns + s];
}
