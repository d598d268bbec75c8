// The other factor is what is there.
fn other(item: u32) -> f32 {
    return out[item];
}
