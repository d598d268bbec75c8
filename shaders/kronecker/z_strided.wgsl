// Item i of z: rows of z_width, z_row apart, z_rows of them to a batch, and batches z_batch apart.
fn z_at(i: u32) -> u32 {
    let item = i + p.z_first;
    let row = item / p.z_width;
    return p.z_offset + row / p.z_rows * p.z_batch + row % p.z_rows * p.z_row + item % p.z_width;
}
