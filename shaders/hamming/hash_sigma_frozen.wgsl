// One sigma for all sequences.
fn sigma_of(head: u32) -> f32 {
    return p.sigma;
}
