// sigma(x)
// The bound keeps exp finite; there sigma is below 1e-34 anyway.
fn sigma(x: vec4f) -> vec4f {
    return 1.0 / (1.0 + exp(min(-x, vec4f(80.0))));
}

fn feature(x: vec4f) -> vec4f {
    return sigma(x);
}

fn feature_slope(x: vec4f) -> vec4f {
    let s = sigma(x);
    return s * (1.0 - s);
}
