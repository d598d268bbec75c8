// The weighted mean of the items: numerator over denominator.
fn columns() -> u32 {
    return p.value;
}

fn found(list: u32, code: u32, c: u32) -> f32 {
    let at = table_row(table_of(list, 0u), code);
    return table[at + c] / table[at + p.value];
}
