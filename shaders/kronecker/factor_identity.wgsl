// The identity.
fn products(l: u32, j: u32, r: u32, own: u32) -> vec4f {
    var product = vec4f();
    for (var c = 0u; c < 4u; c++) {
        product[c] = element(l, min(j + c, p.q - 1u), r);
    }
    return product;
}
