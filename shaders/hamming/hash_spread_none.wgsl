// Sigma is given: distances act through the kernel alone.
fn spread_of(head: u32) -> f32 {
    return 0.0;
}
