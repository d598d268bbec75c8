// Forward: sums, then powers of the root.
fn transform(x: array<vec4u, 4>, e: u32) -> array<vec4u, 4> {
    let y = dft16(x);
    let t = powers(e);
    return array<vec4u, 4>(mul(y[0], t[0]), mul(y[1], t[1]), mul(y[2], t[2]), mul(y[3], t[3]));
}
