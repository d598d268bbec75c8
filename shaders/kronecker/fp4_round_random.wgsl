// The neighbour above with the probability (a - lo s) / (hi s - lo s), else the one below; 6 where a is no less.
fn rounded(a: f32, s: f32, element: u32) -> u32 {
    let code = u32(a >= 0.5 * s) + u32(a >= s) + u32(a - s >= 0.5 * s) + u32(a >= 2.0 * s)
        + u32(a - 2.0 * s >= s) + u32(a >= 4.0 * s) + u32(a - 4.0 * s >= 2.0 * s);
    if (code == 7u) {
        return 7u;
    }
    // Each difference is exact.
    var beyond = a;
    if (code == 1u) {
        beyond = a - 0.5 * s;
    } else if (code == 2u) {
        beyond = a - s;
    } else if (code == 3u) {
        beyond = (a - s) - 0.5 * s;
    } else if (code == 4u) {
        beyond = a - 2.0 * s;
    } else if (code == 5u) {
        beyond = (a - 2.0 * s) - s;
    } else if (code == 6u) {
        beyond = a - 4.0 * s;
    }
    let gap = select(select(2.0, 1.0, code < 6u), 0.5, code < 4u);
    let word = threefry(vec2u(p.key_low, p.key_high), vec2u(element, 0u)).x;
    let share = f32(word >> 8u) * 5.9604644775390625e-8;
    return code + u32(share * (gap * s) < beyond);
}
