// -1 or 1, by the highest bit.
alias Drawn = f32;

fn drawn(word: u32) -> Drawn {
    return select(1.0, -1.0, (word >> 31u) == 1u);
}
