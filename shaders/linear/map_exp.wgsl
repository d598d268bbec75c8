// exp(x)
fn feature(x: vec4f) -> vec4f {
    return exp(x);
}

fn feature_slope(x: vec4f) -> vec4f {
    return exp(x);
}
