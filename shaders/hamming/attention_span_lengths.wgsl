// One sequence a head, with as many keys as the device says.
//
// 7 lengths: array<u32>, keys of each batch entry
@group(0) @binding(7) var<storage, read> lengths: array<u32>;

fn span_of(tile: u32) -> Span {
    let unit = tile / p.tiles;
    let kv = unit * p.fold / p.group;
    let keys = min(lengths[kv / p.kv_heads], p.keys);
    return Span(unit, kv, tile % p.tiles * TILE, p.fold * p.queries, 0u, p.queries, 0u, keys);
}
