// Codes word by word, for any width.
alias Unit = u32;

fn ones(x: Unit) -> u32 {
    return countOneBits(x);
}

fn ones_of_last(x: Unit) -> u32 {
    return countOneBits(x & p.last);
}
