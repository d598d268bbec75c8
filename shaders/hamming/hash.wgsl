// What the kernels of kernel hashing share: parameters and where things lie. Heads are counted over batch x heads; anchors,
// mean and weight have one set a head. Offsets wrap: they take the start of the bound range off an index counted from head 0.
struct Params {
    tokens: u32,
    heads: u32,
    channels: u32,
    anchors: u32,
    bits: u32,
    words: u32,
    first_head: u32,
    items: u32,
    first: u32,
    groups: u32,
    x_offset: u32,
    words_offset: u32,
    projection_offset: u32,
    out_offset: u32,
    sigma: f32,
    // 1 / (tokens anchors).
    share: f32,
}
var<immediate> p: Params;

// The item of a lane; none (u32 max) where there are no more.
fn item_of(index: u32, lane: u32) -> u32 {
    let item = (p.first + index) * 64u + lane;
    return select(0xffffffffu, item, index < p.groups && item < p.items);
}

// The set of anchors of a head, heads being those from first_head on.
fn set_of(head: u32) -> u32 {
    return (p.first_head + head) % p.heads;
}

// What a norm is at least.
const SMALL: f32 = 1e-12;
