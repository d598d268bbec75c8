// x + 1 above 0, exp(x) below
fn feature(x: vec4f) -> vec4f {
    return select(exp(min(x, vec4f())), x + 1.0, x > vec4f());
}

fn feature_slope(x: vec4f) -> vec4f {
    return select(exp(min(x, vec4f())), vec4f(1.0), x > vec4f());
}
