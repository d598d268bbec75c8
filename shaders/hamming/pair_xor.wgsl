// Bits in which words differ.
fn count(x: vec4u, y: vec4u) -> vec4u {
    return countOneBits(x ^ y);
}
