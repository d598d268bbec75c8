// Gradients of the state in one part.
fn more_of(at: u32) -> vec4f {
    return vec4f();
}
