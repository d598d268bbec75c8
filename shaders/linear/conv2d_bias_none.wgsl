// No bias.
fn bias(head: u32, v: u32) -> vec4f {
    return vec4f();
}
