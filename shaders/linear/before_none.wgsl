// The result replaces what is there.
fn before(at: u32, left: u32) -> vec4f {
    return vec4f();
}
