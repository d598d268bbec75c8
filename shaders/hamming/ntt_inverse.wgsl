// Backward: inverse powers of the root, then sums, those of 4^(-nk) by taking number -k for k.
fn transform(x: array<vec4u, 4>, e: u32) -> array<vec4u, 4> {
    let t = powers((65536u - e) % 65536u);
    let y = dft16(array<vec4u, 4>(mul(x[0], t[0]), mul(x[1], t[1]), mul(x[2], t[2]), mul(x[3], t[3])));
    return array<vec4u, 4>(
        vec4u(y[0].x, y[3].w, y[3].z, y[3].y),
        vec4u(y[3].x, y[2].w, y[2].z, y[2].y),
        vec4u(y[2].x, y[1].w, y[1].z, y[1].y),
        vec4u(y[1].x, y[0].w, y[0].z, y[0].y),
    );
}
