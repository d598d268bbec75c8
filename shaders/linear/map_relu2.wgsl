// max(x, 0)^2
fn feature(x: vec4f) -> vec4f {
    let y = max(x, vec4f());
    return y * y;
}

fn feature_slope(x: vec4f) -> vec4f {
    return 2.0 * max(x, vec4f());
}
