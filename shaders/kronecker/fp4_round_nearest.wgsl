// The nearest code, ties to the even one: how many midpoints, of neighbours times s, lie below a.
fn rounded(a: f32, s: f32, element: u32) -> u32 {
    return u32(a > 0.25 * s) + u32(s - a <= 0.25 * s) + u32(a - s > 0.25 * s) + u32(2.0 * s - a <= 0.25 * s)
        + u32(a - 2.0 * s > 0.5 * s) + u32(4.0 * s - a <= 0.5 * s) + u32(a - 4.0 * s > s);
}
