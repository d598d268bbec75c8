// Distances up to a radius: given[offset + q], at most `most`.
fn bound(q: u32) -> u32 {
    return min(given[p.offset + q], p.most) + 1u;
}
