// Tiles of keys rather than queries, with sequences packed into one batch entry: a table row a tile of a head.
//
// 7 pieces: array<u32>, 6 words a tile: its first key and the end of its keys, the first query and the end of its sequence, the first
// key and the end
@group(0) @binding(7) var<storage, read> pieces: array<u32>;

fn span_of(tile: u32) -> Span {
    let kv = tile / p.tiles;
    let at = 6u * (tile % p.tiles);
    let first = pieces[at + 2u];
    return Span(kv * p.group, kv, pieces[at], pieces[at + 1u], first, pieces[at + 3u] - first, pieces[at + 4u], pieces[at + 5u]);
}
