// Codes two words at a time, where their words are even.
alias Unit = vec2u;

fn ones(x: Unit) -> u32 {
    let n = countOneBits(x);
    return n.x + n.y;
}

fn ones_of_last(x: Unit) -> u32 {
    return ones(x & vec2u(0xffffffffu, p.last));
}
