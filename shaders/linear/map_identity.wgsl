// Queries and keys as they are. `left` entries of the row count.
fn key_feature(x: vec4f, left: u32) -> vec4f {
    return x;
}
