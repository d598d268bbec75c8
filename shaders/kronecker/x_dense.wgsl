// Item i of x, which lies one after another.
fn x_at(i: u32) -> u32 {
    return i + p.x_offset;
}
