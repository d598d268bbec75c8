// No symbol of the text is wild.
fn tame(word: u32) -> u32 {
    return 0xffffffffu;
}
