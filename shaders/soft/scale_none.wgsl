// No normalisation.
fn row_scale(head: u32, a: u32) -> f32 {
    return 1.0;
}
