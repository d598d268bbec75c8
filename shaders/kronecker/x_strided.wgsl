// Item i of x: rows of x_width, x_row apart, x_rows of them to a batch, and batches x_batch apart.
fn x_at(i: u32) -> u32 {
    let item = i + p.x_first;
    let row = item / p.x_width;
    return p.x_offset + row / p.x_rows * p.x_batch + row % p.x_rows * p.x_row + item % p.x_width;
}
