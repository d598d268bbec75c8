// There are no factors before.
fn left(r: u32, s: u32) -> f32 {
    return 1.0;
}
