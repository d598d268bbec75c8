// A product alone.
fn base_of(at: u32) -> f32 {
    return 0.0;
}
