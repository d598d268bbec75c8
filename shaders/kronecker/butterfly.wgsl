// Stages of a product of 2 x 2 factors along an axis of 2^k: items u and v of a column whose places differ in one bit become
//
//   u' = a u + c v      v' = b u + d v      in the algebra of its part.
//
// A pass does STAGES bits from p.bit on, WINDOW of them at a time in registers. Column q of the array [.., 2^STAGES, stride] holds
// the items at (q / stride * 2^STAGES + i) * stride + q % stride. Columns are the low bits of a tile's places where LOW, else the
// high ones, and stride is 1.
//
// 1 factors: array<Scalar>, a b c d at 4 (set*bits + bit)      2 items: array<Item>
struct Params {
    columns: u32,
    stride: u32,
    bit: u32,
    bits: u32,
    first_set: u32,
    set_columns: u32,
    first: u32,
    groups: u32,
    offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> factors: array<Scalar>;
@group(0) @binding(2) var<storage, read_write> items: array<Item>;

const LANES: u32 = 1u << LANE_BITS;
// Places of a tile, of which every invocation holds 2^WINDOW at a time.
const TILE_BITS: u32 = LANE_BITS + WINDOW;
const COLUMN_BITS: u32 = TILE_BITS - STAGES;

// The column of an invocation, and the rest of its items' places within: all bits but the WINDOW.
struct Here {
    column: u32,
    rest: u32,
    base: u32,
    factors: u32,
    live: bool,
}

fn base(column: u32) -> u32 {
    if (LOW) {
        return p.offset + ((column / p.stride) << STAGES) * p.stride + column % p.stride;
    }
    return p.offset + (column << STAGES);
}

fn place(tile: u32, lane: u32) -> Here {
    let first = (p.first + tile) << COLUMN_BITS;
    var column = lane >> (STAGES - WINDOW);
    var rest = lane & ((1u << (STAGES - WINDOW)) - 1u);
    if (LOW) {
        column = lane & ((1u << COLUMN_BITS) - 1u);
        rest = lane >> COLUMN_BITS;
    }
    let q = first + column;
    let live = tile < p.groups && q < p.columns;
    return Here(column, rest, base(q), p.first_set + q / p.set_columns, live);
}

struct Factor {
    a: Scalar,
    b: Scalar,
    c: Scalar,
    d: Scalar,
}

fn factor(here: Here, bit: u32) -> Factor {
    let at = 4u * select(0u, here.factors * p.bits + p.bit + bit, here.live);
    return Factor(factors[at], factors[at + 1u], factors[at + 2u], factors[at + 3u]);
}

fn pair(f: Factor, u: ptr<function, Item>, v: ptr<function, Item>) {
    let x = *u;
    let y = *v;
    *u = both(f.a, x, f.c, y);
    *v = both(f.b, x, f.d, y);
}

// The stages from bit `todo` on of the window from bit `start`, all in registers.
fn window(here: Here, start: u32, todo: u32) {
    let i = ((here.rest >> start) << (start + WINDOW)) | (here.rest & ((1u << start) - 1u));
    let step = 1u << start;
    var x0 = fetch(here, i);
    var x1 = fetch(here, i + step);
    var x2 = Item();
    var x3 = Item();
    var x4 = Item();
    var x5 = Item();
    var x6 = Item();
    var x7 = Item();
    var x8 = Item();
    var x9 = Item();
    var x10 = Item();
    var x11 = Item();
    var x12 = Item();
    var x13 = Item();
    var x14 = Item();
    var x15 = Item();
    if (WINDOW > 1u) {
        x2 = fetch(here, i + 2u * step);
        x3 = fetch(here, i + 3u * step);
    }
    if (WINDOW > 2u) {
        x4 = fetch(here, i + 4u * step);
        x5 = fetch(here, i + 5u * step);
        x6 = fetch(here, i + 6u * step);
        x7 = fetch(here, i + 7u * step);
    }
    if (WINDOW > 3u) {
        x8 = fetch(here, i + 8u * step);
        x9 = fetch(here, i + 9u * step);
        x10 = fetch(here, i + 10u * step);
        x11 = fetch(here, i + 11u * step);
        x12 = fetch(here, i + 12u * step);
        x13 = fetch(here, i + 13u * step);
        x14 = fetch(here, i + 14u * step);
        x15 = fetch(here, i + 15u * step);
    }
    if (start >= todo) {
        let f = factor(here, start);
        pair(f, &x0, &x1);
        pair(f, &x2, &x3);
        pair(f, &x4, &x5);
        pair(f, &x6, &x7);
        pair(f, &x8, &x9);
        pair(f, &x10, &x11);
        pair(f, &x12, &x13);
        pair(f, &x14, &x15);
    }
    if (WINDOW > 1u && start + 1u >= todo) {
        let f = factor(here, start + 1u);
        pair(f, &x0, &x2);
        pair(f, &x1, &x3);
        pair(f, &x4, &x6);
        pair(f, &x5, &x7);
        pair(f, &x8, &x10);
        pair(f, &x9, &x11);
        pair(f, &x12, &x14);
        pair(f, &x13, &x15);
    }
    if (WINDOW > 2u && start + 2u >= todo) {
        let f = factor(here, start + 2u);
        pair(f, &x0, &x4);
        pair(f, &x1, &x5);
        pair(f, &x2, &x6);
        pair(f, &x3, &x7);
        pair(f, &x8, &x12);
        pair(f, &x9, &x13);
        pair(f, &x10, &x14);
        pair(f, &x11, &x15);
    }
    if (WINDOW > 3u && start + 3u >= todo) {
        let f = factor(here, start + 3u);
        pair(f, &x0, &x8);
        pair(f, &x1, &x9);
        pair(f, &x2, &x10);
        pair(f, &x3, &x11);
        pair(f, &x4, &x12);
        pair(f, &x5, &x13);
        pair(f, &x6, &x14);
        pair(f, &x7, &x15);
    }
    keep(here, i, x0);
    keep(here, i + step, x1);
    if (WINDOW > 1u) {
        keep(here, i + 2u * step, x2);
        keep(here, i + 3u * step, x3);
    }
    if (WINDOW > 2u) {
        keep(here, i + 4u * step, x4);
        keep(here, i + 5u * step, x5);
        keep(here, i + 6u * step, x6);
        keep(here, i + 7u * step, x7);
    }
    if (WINDOW > 3u) {
        keep(here, i + 8u * step, x8);
        keep(here, i + 9u * step, x9);
        keep(here, i + 10u * step, x10);
        keep(here, i + 11u * step, x11);
        keep(here, i + 12u * step, x12);
        keep(here, i + 13u * step, x13);
        keep(here, i + 14u * step, x14);
        keep(here, i + 15u * step, x15);
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let tile = group_index(group, grid);
    let here = place(tile, lane);
    enter(tile, lane);
    for (var todo = 0u; todo < STAGES; todo += WINDOW) {
        wait();
        window(here, min(todo, STAGES - WINDOW), todo);
    }
    wait();
    leave(tile, lane);
}
