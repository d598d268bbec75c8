// The n-th row of a set of weights: those of its head, or all rows where the heads share one set.
fn head_row(index: u32, n: u32) -> u32 {
    return p.first_row + n / p.span * p.stride + index * p.step + n % p.span;
}
