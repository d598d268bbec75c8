// Factors of a row's columns, from w[set*K + k]; past the row the last repeats.
fn gamma(weight_set: u32, column: u32) -> vec4f {
    let at = vec4u(weight_set * p.key) + min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(p.key - 1u));
    return vec4f(w[at.x], w[at.y], w[at.z], w[at.w]);
}
