// DCT-II: the numbers of even places forward, then those of odd places backward, as the real and imaginary parts of HALF points; the
// spectrum V of all n from that of the points, and y_k - i y_(n-k) = scale exp(-πik / 2n) V_k, y_0 divided by √2.
fn folded(line: Line, t: u32) -> f32 {
    return given(line, select(2u * N - 1u - 2u * t, 2u * t, t < HALF));
}

fn entering(line: Line, k: u32) -> vec2f {
    return vec2f(folded(line, 2u * k), folded(line, 2u * k + 1u));
}

fn leaving(line: Line, base: u32, k: u32) {
    let z = arena[base + k];
    let mirrored = conjugate(arena[base + ((HALF - k) & (HALF - 1u))]);
    // -i/2 (z - mirrored), turned by exp(-2πik / n).
    let odd = 0.5 * times(vec2f(z.y - mirrored.y, mirrored.x - z.x), roots[4u * k]);
    let even = 0.5 * (z + mirrored);
    if (k == 0u) {
        put(line, 0u, p.scale * 0.7071067811865476 * (even.x + odd.x));
        // V_HALF is real, its root exp(-πi / 4).
        put(line, HALF, p.scale * 0.7071067811865476 * (even.x - odd.x));
    } else {
        let w = p.scale * times(even + odd, roots[k]);
        put(line, k, w.x);
        put(line, N - k, -w.y);
    }
}
