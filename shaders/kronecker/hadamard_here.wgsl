// The items are read where they are written.
fn source(at: u32) -> Stored {
    return y[at];
}
