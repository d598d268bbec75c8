// The word itself.
alias Drawn = u32;

fn drawn(word: u32) -> Drawn {
    return word;
}
