// A diagonal factor.
//
// 1 factor: array<f32>, F[j, j] at own + j
@group(0) @binding(1) var<storage, read> factor: array<f32>;

fn products(l: u32, j: u32, r: u32, own: u32) -> vec4f {
    var product = vec4f();
    for (var c = 0u; c < 4u; c++) {
        let t = min(j + c, p.q - 1u);
        product[c] = element(l, t, r) * factor[own + t];
    }
    return product;
}
