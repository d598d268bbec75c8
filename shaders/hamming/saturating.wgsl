// A sum that stays at 2^32 - 1.
fn saturating(x: u32, y: u32) -> u32 {
    return select(x + y, 0xffffffffu, y > 0xffffffffu - x);
}
