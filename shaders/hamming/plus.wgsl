// Addition that stops at 2^32 - 1.
fn plus(a: u32, b: u32) -> u32 {
    let sum = a + b;
    return select(sum, 0xffffffffu, sum < a);
}
