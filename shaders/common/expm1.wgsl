// exp(x) - 1 for x <= 0 without cancellation: a series of degree 8 near 0 (error below 2^-26 for |x| < 1/2).
fn expm1(x: f32) -> f32 {
    let series = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x / 40320.0)))))));
    return select(exp(x) - 1.0, series, abs(x) < 0.5);
}
