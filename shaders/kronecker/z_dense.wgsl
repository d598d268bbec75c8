// Item i of z, which lies one after another.
fn z_at(i: u32) -> u32 {
    return i + p.z_offset;
}
