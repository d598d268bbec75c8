// x (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3)

// 1 + tanh u = 2 / (1 + exp(-2u)); the bounds keep exp finite, and beyond them the result does not change in f32.
fn gate(x: vec4f) -> vec4f {
    let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return 2.0 / (1.0 + exp(-2.0 * clamp(u, vec4f(-40.0), vec4f(20.0))));
}

fn feature(x: vec4f) -> vec4f {
    return 0.5 * x * gate(x);
}

fn feature_slope(x: vec4f) -> vec4f {
    let g = gate(x);
    let slope = 0.7978845608028654 * (1.0 + 0.134145 * x * x);
    // tanh = g - 1, so 1 - tanh^2 = g (2 - g).
    return 0.5 * (g + x * g * (2.0 - g) * slope);
}
