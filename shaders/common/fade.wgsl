// Multiplying by exp(x), x <= 0, over and over. Near 0 the product is s + expm1(x) s, by a series of degree 8 (error below
// 2^-26 for x > -1/2): a rounded factor close to 1 would be a bias repeated at every step. Far from 0 it is exp(x) s, which
// keeps small weights exact relative to themselves. `near` selects and does not multiply: compilers may turn a s + b s into
// (a + b) s (Mesa does), which would round the factor after all.
struct Fade {
    near: vec4<bool>,
    change: vec4f,
}

fn fade(x: vec4f) -> Fade {
    let series = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x / 40320.0)))))));
    let near = x > vec4f(-0.5);
    return Fade(near, select(exp(x), series, near));
}

fn faded(f: Fade, s: vec4f) -> vec4f {
    return fma(f.change, s, select(vec4f(), s, f.near));
}

// The four entries' fades, each for a whole row.
fn fade_of_row(f: Fade, n: u32) -> Fade {
    return Fade(vec4<bool>(f.near[n]), vec4f(f.change[n]));
}
