// Sequences packed into one batch entry: a table row a tile of a head.
//
// 7 pieces: array<u32>, 5 words a tile: its first row, the first query and the end of its sequence, the first key and the end
@group(0) @binding(7) var<storage, read> pieces: array<u32>;

fn span_of(tile: u32) -> Span {
    let unit = tile / p.tiles;
    let at = 5u * (tile % p.tiles);
    let first = pieces[at + 1u];
    let end = pieces[at + 2u];
    return Span(unit, unit / p.group, pieces[at], end, first, end - first, pieces[at + 3u], pieces[at + 4u]);
}
