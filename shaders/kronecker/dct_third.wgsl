// DCT-III, the inverse of DCT-II step by step: V_k = exp(πik / 2n) (x_k - i x_(n-k)), x_0 times √2; the points' spectrum from it, with real
// and imaginary parts exchanged so that the FFT is an inverse one; and the numbers of the points back to even and odd places.
fn spectrum(line: Line, k: u32) -> vec2f {
    if (k == 0u) {
        return vec2f(1.4142135623730951 * given(line, 0u), 0.0);
    }
    return times(vec2f(given(line, k), -given(line, N - k)), conjugate(roots[k]));
}

fn entering(line: Line, k: u32) -> vec2f {
    let v = spectrum(line, k);
    let mirrored = conjugate(spectrum(line, HALF - k));
    let odd = times(v - mirrored, conjugate(roots[4u * k]));
    let even = v + mirrored;
    // even + i odd, exchanged.
    return vec2f(even.y + odd.x, even.x - odd.y);
}

fn leaving(line: Line, base: u32, k: u32) {
    let z = p.scale * arena[base + k];
    put_folded(line, 2u * k, z.y);
    put_folded(line, 2u * k + 1u, z.x);
}

fn put_folded(line: Line, t: u32, value: f32) {
    put(line, select(2u * N - 1u - 2u * t, 2u * t, t < HALF), value);
}
