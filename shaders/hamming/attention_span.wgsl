// What the rows of a tile are: TILE queries of a unit, with the keys of their sequence. A unit is a head, or the heads of a group one
// after the other where these have few queries: rows of o that lie together and read one head of keys.
//
// Asks for: p.fold (heads of a unit), p.queries, p.heads (numbers of beta), p.bits; span_of(tile) of a part.
struct Span {
    unit: u32,
    // The head of keys, counted over the batch.
    kv: u32,
    // The tile's first row in the unit, and where the sequence's end.
    row: u32,
    rows: u32,
    q_first: u32,
    q_len: u32,
    k_first: u32,
    k_end: u32,
}

// Row r of a unit among the rows of o.
fn row_of(s: Span, r: u32) -> u32 {
    return s.unit * p.fold * p.queries + r;
}

// Where the weights of a row begin: weights of the distances 0 .. bits, then `bits` where weights rise with the distance, else 0, then
// the factor of bits - 2 m in lse, then beta.
fn table_of(s: Span, r: u32) -> u32 {
    return row_of(s, r) / p.queries % p.heads * (p.bits + 4u);
}
