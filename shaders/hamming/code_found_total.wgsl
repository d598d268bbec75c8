// The weighted sums of the items over all tables of the reader.
fn columns() -> u32 {
    return p.value;
}

fn found(list: u32, code: u32, c: u32) -> f32 {
    var sum = 0.0;
    for (var x = 0u; x < p.span; x++) {
        sum += table[table_row(table_of(list, x), code) + c];
    }
    return sum;
}
