// The weighted sums of the items over all tables of the reader.
fn columns() -> u32 {
    return p.value;
}

fn divisor(at: u32) -> f32 {
    return 1.0;
}

fn found(at: u32, c: u32, whole: f32) -> f32 {
    var sum = 0.0;
    for (var x = 0u; x < p.span; x++) {
        sum += table[at + x * ((p.value + 1u) << p.bits) + c];
    }
    return sum;
}
