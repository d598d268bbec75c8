// The items are read where they are written.
fn source(at: u32) -> f32 {
    return y[at];
}
