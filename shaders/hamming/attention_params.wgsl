// Parameters of the forward kernels over pairs. Offsets wrap: they take the start of the bound range off an index counted from the start
// of the whole tensor. Groups are counted from `first`, tiles from `tile_base`, where a chunk begins; `begin` to `end` is the part of a
// split's keys that the dispatch walks.
struct Params {
    a_offset: u32,
    b_offset: u32,
    a_len: u32,
    b_len: u32,
    words: u32,
    last: u32,
    heads: u32,
    kv_heads: u32,
    group: u32,
    fold: u32,
    queries: u32,
    keys: u32,
    capacity: u32,
    tiles: u32,
    tile_base: u32,
    splits: u32,
    split_len: u32,
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    causal: u32,
    window: u32,
    sinks: u32,
    value: u32,
    v_offset: u32,
    bits: u32,
    segment: u32,
}
var<immediate> p: Params;
