// Tiles of keys rather than queries: rows of a head of keys, the room to spare among them. The unit is the first head that reads it.
fn span_of(tile: u32) -> Span {
    let kv = tile / p.tiles;
    return Span(kv * p.group, kv, tile % p.tiles * TILE, p.capacity, 0u, p.queries, 0u, p.keys);
}
