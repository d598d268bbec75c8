// No bias.
fn bias(weight_set: u32, column: u32) -> vec4f {
    return vec4f();
}
