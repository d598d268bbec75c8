// What both attention kernels share: parameters, bindings and guarded loads.
//
// 0 q: array<Cell>, q[q_offset + index(head, t, K) + k]          1 k: array<Cell>, as q
// 2 v: array<Cell>, v[v_offset + index(head, t, V) + v]          3 o: as v from o_offset, in a part of its own
// with head counted over batch x heads and
// index(head, t, W) = ((head/H)*batch_stride + (head%H)*head_stride + t*token_stride) * W.
// Offsets wrap: they take the start of the bound range off an index counted from the start of the whole tensor.
struct Params {
    tokens: u32,
    heads: u32,
    key: u32,
    value: u32,
    tiles: u32,
    slices: u32,
    first: u32,
    groups: u32,
    key_begin: u32,
    key_end: u32,
    batch_stride: u32,
    head_stride: u32,
    token_stride: u32,
    q_offset: u32,
    k_offset: u32,
    v_offset: u32,
    o_offset: u32,
    rows_offset: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<Cell>;
@group(0) @binding(1) var<storage, read> k: array<Cell>;
@group(0) @binding(2) var<storage, read> v: array<Cell>;

// Below every score; its differences with scores stay finite.
const LOWEST: f32 = -1e30;

// What a workgroup works on: ROWS_TILE query rows from `first` and a slice of the columns of one head, against keys
// begin .. end. Tiles come longest first. `opens`, `closes`: the first and the last keys of the tile are among them.
struct Place {
    head: u32,
    row: u32,
    slice: u32,
    first: u32,
    begin: u32,
    end: u32,
    opens: bool,
    closes: bool,
}

fn place(index: u32) -> Place {
    let at = p.first + min(index, p.groups - 1u);
    let head = at / (p.slices * p.tiles);
    let first = (p.tiles - 1u - (at / p.slices) % p.tiles) * ROWS_TILE;
    let needed = select(p.tokens, min(first + ROWS_TILE, p.tokens), CAUSAL);
    return Place(
        head,
        (head / p.heads) * p.batch_stride + (head % p.heads) * p.head_stride,
        at % p.slices,
        first,
        p.key_begin,
        // Groups past the grid have no keys, and so write nothing.
        select(p.key_begin, min(needed, p.key_end), index < p.groups),
        p.key_begin == 0u,
        needed <= p.key_end,
    );
}

// Whether query t may see key j of this dispatch.
fn seen(t: u32, j: u32, end: u32) -> bool {
    return j < end && (!CAUSAL || j <= t);
}

// Element `at` of row t of a tensor of this width. Rows past the end repeat the last, columns past it the first.
fn element(here: Place, t: u32, column: u32, width: u32) -> u32 {
    return (here.row + min(t, p.tokens - 1u) * p.token_stride) * width + select(0u, column, column < width);
}

fn load_q(here: Place, t: u32, column: u32) -> vec4f {
    let live = column < p.key;
    let at = p.q_offset + element(here, t, column, p.key);
    let left = select(1u, p.key - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, q[c.x], q[c.y], q[c.z], q[c.w]), live);
}

fn load_k(here: Place, t: u32, column: u32) -> vec4f {
    let live = column < p.key;
    let at = p.k_offset + element(here, t, column, p.key);
    let left = select(1u, p.key - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, k[c.x], k[c.y], k[c.z], k[c.w]), live);
}

fn load_v(here: Place, t: u32, column: u32) -> vec4f {
    let live = column < p.value;
    let at = p.v_offset + element(here, t, column, p.value);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}
