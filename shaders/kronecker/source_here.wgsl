// The items are read where they are written.
fn source(at: u32) -> Item {
    return items[at];
}
