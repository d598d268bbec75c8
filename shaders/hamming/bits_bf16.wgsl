// Elements of x as bits of f32: bf16 is its upper half.
fn element(i: u32) -> u32 {
    return select(x[i / 2u] << 16u, x[i / 2u] & 0xffff0000u, (i & 1u) == 1u);
}
