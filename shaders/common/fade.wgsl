// Multiplying by exp(x), x <= 0, over and over: exp(x) s = keep * s + change * s. Near 0 this is s + expm1(x) s, by a series
// of degree 8 (error below 2^-26 for x > -1/2): a rounded factor close to 1 would be a bias repeated at every step. Far from
// 0 it is exp(x) s, which keeps small weights exact relative to themselves.
struct Fade {
    keep: f32,
    change: f32,
}

fn fade(x: f32) -> Fade {
    let series = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x / 40320.0)))))));
    let near = x > -0.5;
    return Fade(select(0.0, 1.0, near), select(exp(x), series, near));
}

fn faded(f: Fade, s: vec4f) -> vec4f {
    return fma(vec4f(f.change), s, f.keep * s);
}
