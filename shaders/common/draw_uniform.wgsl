// In (0, 1), every step exact.
alias Drawn = f32;

fn drawn(word: u32) -> Drawn {
    return (f32(word >> 9u) + 0.5) * 1.1920928955078125e-7;
}
