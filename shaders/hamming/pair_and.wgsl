// Bits that words have in common.
fn count(x: vec4u, y: vec4u) -> vec4u {
    return countOneBits(x & y);
}
