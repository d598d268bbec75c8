// The weighted mean of the items: numerator over denominator.
fn columns() -> u32 {
    return p.value;
}

fn divisor(at: u32) -> f32 {
    return table[at + p.value];
}

fn found(at: u32, c: u32, whole: f32) -> f32 {
    return table[at + c] / whole;
}
