// Places count from a row's start.
fn base(q: u32) -> u32 {
    return 0u;
}
