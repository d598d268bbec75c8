// The bound there is where all rows together are at most `most`, else nothing.
fn bound(q: u32) -> u32 {
    return select(0u, bounds[q], given[p.offset] <= p.most);
}
