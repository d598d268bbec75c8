// What a product is added to.
@group(0) @binding(2) var<storage, read> base: array<f32>;

fn base_of(at: u32) -> f32 {
    return base[at];
}
