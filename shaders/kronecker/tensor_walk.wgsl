// What the walks of third-order attention share: parameters, bindings, guarded loads and places.
//
// The queries and the two kinds of keys are, in some order, owners x, partners y and columns z; xv, yv, zv are what goes with them:
// gradients of outputs with queries, values with keys. A row is a pair (owner, partner): tiles have NX owners by 2^y_bits partners.
//
// 0 x: array<Cell>, x[x_offset + (unit*x_len + row)*D + d]        1 y, 2 z: likewise        3 yv, 4 zv: likewise, of V channels
// with unit counted over batch x heads of keys. Queries of the heads that share keys are counted token by token: the u-th is token
// u / group of head u % group. Offsets wrap: they take the start of the bound range off an index counted from the start of the tensor.
// 7 parts: array<vec4f>, parts[((tile*NX + owner)*PARTS + part*2^y_bits + partner)*BLOCK + c], part counting parts of the partners
struct Params {
    x_offset: u32,
    y_offset: u32,
    z_offset: u32,
    xv_offset: u32,
    yv_offset: u32,
    zv_offset: u32,
    rows_offset: u32,
    x_len: u32,
    y_len: u32,
    z_len: u32,
    group: u32,
    shift: u32,
    row_behind: u32,
    row_ahead: u32,
    column_behind: u32,
    column_ahead: u32,
    key: u32,
    value: u32,
    y_bits: u32,
    tiles: u32,
    tile_base: u32,
    y_parts: u32,
    y_part: u32,
    y_from: u32,
    y_to: u32,
    z_from: u32,
    z_to: u32,
    first: u32,
    groups: u32,
    scale: f32,
    key_bias: f32,
    value_bias: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Cell>;
@group(0) @binding(1) var<storage, read> y: array<Cell>;
@group(0) @binding(2) var<storage, read> z: array<Cell>;
@group(0) @binding(3) var<storage, read> yv: array<Cell>;
@group(0) @binding(4) var<storage, read> zv: array<Cell>;
@group(0) @binding(7) var<storage, read_write> parts: array<vec4f>;

const LOG2E: f32 = 1.4426950408889634;

// Below every score; its differences with scores stay finite.
const LOWEST: f32 = -1e30;

// Which of x, y, z the keys with biases are.
const OF_X: u32 = 1u;
const OF_Y: u32 = 2u;
const OF_Z: u32 = 3u;

// Where four channels of a row lie: STEP of a key, 4 of a value. Channels past the row are 0, but for the bias.
struct Spot {
    at: u32,
    left: u32,
    live: bool,
}

fn spot(offset: u32, row: u32, channel: u32, step: u32, width: u32) -> Spot {
    let live = channel < width;
    return Spot(offset + row * width + select(0u, channel, live), select(1u, min(width - channel, step), live), live);
}

fn load_x(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.x_offset, row, STEP * chunk, STEP, p.key);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, x[c.x], x[c.y], x[c.z], x[c.w]), s.live) + select(0.0, p.key_bias, BIASED == OF_X);
}

fn load_y(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.y_offset, row, STEP * chunk, STEP, p.key);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, y[c.x], y[c.y], y[c.z], y[c.w]), s.live) + select(0.0, p.key_bias, BIASED == OF_Y);
}

fn load_z(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.z_offset, row, STEP * chunk, STEP, p.key);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, z[c.x], z[c.y], z[c.z], z[c.w]), s.live) + select(0.0, p.key_bias, BIASED == OF_Z);
}

fn load_yv(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.yv_offset, row, 4u * chunk, 4u, p.value);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, yv[c.x], yv[c.y], yv[c.z], yv[c.w]), s.live) + select(0.0, p.value_bias, BIASED == OF_Y);
}

fn load_zv(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.zv_offset, row, 4u * chunk, 4u, p.value);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, zv[c.x], zv[c.y], zv[c.z], zv[c.w]), s.live) + select(0.0, p.value_bias, BIASED == OF_Z);
}

fn key_chunks() -> u32 {
    return (p.key + STEP - 1u) / STEP;
}

fn value_chunks() -> u32 {
    return (p.value + 3u) / 4u;
}

// The row of the u-th query among those of a unit, of which there are `len`.
fn query_row(u: u32, len: u32) -> u32 {
    return u % p.group * (len / p.group) + u / p.group;
}

// The place of the u-th query among the keys.
fn place_of(u: u32) -> i32 {
    return i32(u / p.group) + bitcast<i32>(p.shift);
}

// Numbers from `low` up to `end` that are at least 0 and less than `len`.
fn interval(low: i32, end: i32, len: u32) -> vec2u {
    let begin = clamp(low, 0, i32(len));
    return vec2u(u32(begin), u32(clamp(end, begin, i32(len))));
}

// What a workgroup works on: owners from x0 of a unit, partners y0 .. y1 in blocks, with columns of each block from z_from up to
// z_to. `at`: the number of the tile's first row among the rows of parts, `opens`: no earlier dispatch wrote these.
struct Place {
    unit: u32,
    x0: u32,
    y0: u32,
    y1: u32,
    slice: u32,
    tile: u32,
    part: u32,
    live: bool,
    opens: bool,
}

fn place(index: u32, slices: u32) -> Place {
    let live = index < p.groups;
    let at = p.first + min(index, p.groups - 1u);
    let part = at / slices % p.y_parts;
    let tile = at / (slices * p.y_parts);
    let unit = (p.tile_base + tile) / p.tiles;
    let x0 = (p.tile_base + tile) % p.tiles * (ROWS >> p.y_bits);
    let span = y_span(x0, min(x0 + (ROWS >> p.y_bits), p.x_len) - 1u);
    let begin = span.x + part * p.y_part;
    let end = min(span.y, begin + p.y_part);
    let y0 = begin + p.y_from;
    // Groups past the grid have no partners.
    return Place(unit, x0, y0, select(y0, min(end, begin + p.y_to), live), at % slices, tile, part, live, p.y_from + p.z_from == 0u);
}

// The columns that some rows of a block see, within what this dispatch walks.
fn z_part(here: Place, y0: u32) -> vec2u {
    let x1 = min(here.x0 + (ROWS >> p.y_bits), p.x_len) - 1u;
    let span = z_span(here.x0, x1, y0, min(y0 + (1u << p.y_bits), p.y_len) - 1u);
    return vec2u(span.x + p.z_from, min(span.y, span.x + p.z_to));
}

// Owner and partner of a row, and their rows in memory; those past the end are repeated.
fn owner(here: Place, row: u32) -> u32 {
    return here.x0 + (row >> p.y_bits);
}

fn partner(y0: u32, row: u32) -> u32 {
    return y0 + (row & ((1u << p.y_bits) - 1u));
}

fn owner_row(here: Place, row: u32) -> u32 {
    return here.unit * p.x_len + x_row(min(owner(here, row), p.x_len - 1u));
}

fn partner_row(here: Place, y0: u32, row: u32) -> u32 {
    return y_unit(here.unit) + y_row(min(partner(y0, row), p.y_len - 1u));
}

fn column_row(here: Place, column: u32) -> u32 {
    return z_unit(here.unit) + min(column, p.z_len - 1u);
}

// Where the sums of a row begin.
fn sums_of(here: Place, row: u32, block: u32) -> u32 {
    let slot = here.tile * (ROWS >> p.y_bits) + (row >> p.y_bits);
    return (((slot * p.y_parts + here.part) << p.y_bits) + (row & ((1u << p.y_bits) - 1u))) * block;
}
