// One sequence a head, all of its keys.
fn span_of(tile: u32) -> Span {
    let unit = tile / p.tiles;
    return Span(unit, unit * p.fold / p.group, tile % p.tiles * TILE, p.fold * p.queries, 0u, p.queries, 0u, p.keys);
}
