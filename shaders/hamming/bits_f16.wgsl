// Elements of x as bits of f32: every f16 is an f32, the denormal ones normal.
fn element(i: u32) -> u32 {
    let half = (x[i / 2u] >> (16u * (i & 1u))) & 0xffffu;
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 31u;
    let fraction = half & 1023u;
    if (exponent == 31u) {
        return sign | 0x7f800000u | (fraction << 13u);
    }
    if (exponent > 0u) {
        return sign | ((exponent + 112u) << 23u) | (fraction << 13u);
    }
    if (fraction == 0u) {
        return sign;
    }
    // fraction * 2^-24, whose highest bit is bit `top`.
    let top = firstLeadingBit(fraction);
    return sign | ((top + 103u) << 23u) | ((fraction << (23u - top)) & 0x7fffffu);
}
