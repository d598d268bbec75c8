// max(x, 0).
fn key_feature(x: vec4f, left: u32) -> vec4f {
    return max(x, vec4f());
}
