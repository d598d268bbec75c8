// The weighted sums of the items and the sum of the weights.
fn columns() -> u32 {
    return p.value + 1u;
}

fn found(list: u32, code: u32, c: u32) -> f32 {
    return table[table_row(table_of(list, 0u), code) + c];
}
