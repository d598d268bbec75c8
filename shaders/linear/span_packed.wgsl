// Sequences packed into one batch entry: a table row per piece of a sequence.
//
// 7 table: array<u32>, 6 words a piece: its first token and end, the sequence's first token and end, the states before the
// sequence's, for all heads, and the states that a head of it keeps
@group(0) @binding(7) var<storage, read> table: array<u32>;

fn span_of(index: u32) -> Span {
    let walker = p.first_walker + index;
    let head = walker % p.state_heads;
    let at = 6u * (walker / p.state_heads);
    return Span(0u, head, table[at], table[at + 1u], table[at + 2u], table[at + 3u], table[at + 4u] * p.state_heads + head * table[at + 5u]);
}
