// One threshold for every dimension.
fn limit(dimension: u32) -> u32 {
    return p.threshold;
}
