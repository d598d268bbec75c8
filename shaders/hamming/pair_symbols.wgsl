// Symbols in which words differ: fields of several bits, of which TOP has the highest bits.
fn count(x: vec4u, y: vec4u) -> vec4u {
    let rest = vec4u(~TOP);
    let different = x ^ y;
    return countOneBits((((different & rest) + rest) | different) & vec4u(TOP));
}
