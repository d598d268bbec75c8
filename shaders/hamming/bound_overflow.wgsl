// The bound there is where more than `most` items were counted, else nothing.
fn bound(q: u32) -> u32 {
    return select(0u, bounds[q], given[p.offset + q] > p.most);
}
