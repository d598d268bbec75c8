// Items whose bit is 1 are kept; a stride of 0 is one filter for all queries.
//
// 6 filters: array<u32>, bit j & 31 of filters[filter_offset + q*filter_stride + j/32]
@group(0) @binding(6) var<storage, read> filters: array<u32>;

fn kept(q: u32, index: u32) -> bool {
    return ((filters[p.filter_offset + q * p.filter_stride + (index >> 5u)] >> (index & 31u)) & 1u) == 1u;
}

// Whether any of the eight items from one on is kept.
fn any_kept(q: u32, index: u32) -> bool {
    let at = p.filter_offset + q * p.filter_stride;
    let end = p.first_item + p.items - 1u;
    let low = filters[at + (index >> 5u)] >> (index & 31u);
    let high = filters[at + (min(index + 7u, end) >> 5u)];
    // The second word counts whole: too much is walked at times, nothing is left out.
    return ((low & 255u) != 0u) || ((index & 31u) > 24u && high != 0u);
}
