// Elements of x as bits of f32: they are.
fn element(i: u32) -> u32 {
    return x[i];
}
