// Distances of all pairs of codes: d_ij = count(a_i, b_j), by tiles.
//
// 0 a: array<u32>, a[a_offset + i*words + w]      1 b: array<u32>, b[b_offset + j*words + w]
// 2 out: of an epilogue, which says how distances lie in it
//
// The entry is of a part, which calls pairs(first_row, first_column, ..) of a tile part.
//
// A row of tiles is `across` tiles wide; with FOLDED, rows of tiles above the diagonal are laid together in pairs of one length.
struct Params {
    a_offset: u32,
    b_offset: u32,
    a_len: u32,
    b_len: u32,
    words: u32,
    last: u32,
    across: u32,
    tile_begin: u32,
    tile_end: u32,
    tiles: u32,
    first: u32,
    groups: u32,
    out_offset: u32,
    out_stride: u32,
    a_counts_offset: u32,
    b_counts_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;

// The tile of a group, and whether there is one.
fn place(index: u32) -> vec3u {
    let at = p.first + index;
    let r = at / p.across;
    let c = at % p.across;
    if (!FOLDED) {
        return vec3u(p.tile_begin + r, c, select(0u, 1u, index < p.groups));
    }
    let upper = p.tile_begin + r;
    let lower = p.tile_end - 1u - r;
    let len = p.tiles - upper;
    let in_upper = c < len;
    let row = select(lower, upper, in_upper);
    let column = row + select(c - len, c, in_upper);
    return vec3u(row, column, select(0u, 1u, index < p.groups && (in_upper || lower > upper)));
}
