// Codes four words at a time, where their words are so many.
alias Unit = vec4u;

fn ones(x: Unit) -> u32 {
    let n = countOneBits(x);
    return n.x + n.y + n.z + n.w;
}

fn ones_of_last(x: Unit) -> u32 {
    return ones(x & vec4u(0xffffffffu, 0xffffffffu, 0xffffffffu, p.last));
}
