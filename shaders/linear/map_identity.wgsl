// x
fn feature(x: vec4f) -> vec4f {
    return x;
}

fn feature_slope(x: vec4f) -> vec4f {
    return vec4f(1.0);
}
