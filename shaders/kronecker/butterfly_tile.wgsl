// Items that are exchanged between windows in workgroup memory, 2^WINDOW an invocation.
const TILE: u32 = 1u << TILE_BITS;
var<workgroup> arena: array<Item, TILE>;

// Where a place of the tile lies: neighbours and those 16 apart are in different banks.
fn slot(n: u32) -> u32 {
    return n ^ ((n >> 5u) & 31u);
}

fn inside(here: Here, i: u32) -> u32 {
    if (LOW) {
        return slot((i << COLUMN_BITS) | here.column);
    }
    return slot((here.column << STAGES) | i);
}

fn fetch(here: Here, i: u32) -> Item {
    return arena[inside(here, i)];
}

fn keep(here: Here, i: u32, x: Item) {
    arena[inside(here, i)] = x;
}

// Where place n of a tile is in memory, and whether it is there at all.
struct Address {
    at: u32,
    live: bool,
}

fn address(tile: u32, n: u32, low: u32) -> Address {
    let first = (p.first + tile) << COLUMN_BITS;
    if (LOW) {
        let column = first + (n & ((1u << COLUMN_BITS) - 1u));
        return Address(low + (n >> COLUMN_BITS) * p.stride, tile < p.groups && column < p.columns);
    }
    return Address(p.offset + (first << STAGES) + n, tile < p.groups && first + (n >> STAGES) < p.columns);
}

fn enter(tile: u32, lane: u32) {
    let low = base(((p.first + tile) << COLUMN_BITS) + (lane & ((1u << COLUMN_BITS) - 1u)));
    for (var e = 0u; e < (1u << WINDOW); e++) {
        let n = (e << LANE_BITS) | lane;
        let here = address(tile, n, low);
        if (here.live) {
            arena[slot(n)] = source(here.at);
        } else {
            arena[slot(n)] = Item();
        }
    }
}

fn leave(tile: u32, lane: u32) {
    let low = base(((p.first + tile) << COLUMN_BITS) + (lane & ((1u << COLUMN_BITS) - 1u)));
    for (var e = 0u; e < (1u << WINDOW); e++) {
        let n = (e << LANE_BITS) | lane;
        let here = address(tile, n, low);
        if (here.live) {
            items[here.at] = arena[slot(n)];
        }
    }
}

fn wait() {
    workgroupBarrier();
}
