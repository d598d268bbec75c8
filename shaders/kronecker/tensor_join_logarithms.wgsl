// Logarithms of sums whose product is wanted: the lowest f32 stands for an empty sum.
fn join(a: f32, b: f32) -> f32 {
    const LOWEST = -0x1.fffffep+127f;
    return select(a + b, LOWEST, min(a, b) <= LOWEST);
}
