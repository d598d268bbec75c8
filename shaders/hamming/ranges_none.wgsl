// No ranges: a query sees every item.
fn range_of(q: u32) -> vec2u {
    return vec2u(0u, 0xffffffffu);
}
