// No filter: every item is kept.
fn kept(q: u32, index: u32) -> bool {
    return true;
}

fn any_kept(q: u32, index: u32) -> bool {
    return true;
}
