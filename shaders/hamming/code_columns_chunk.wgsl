// Weighted sums and the sum of the weights, of one chunk.
fn columns() -> u32 {
    return p.value + 1u;
}

fn place(list: u32, i: u32) -> u32 {
    return (list * (p.end - p.begin) + i - p.begin) * columns();
}
