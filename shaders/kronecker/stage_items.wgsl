// The items of a pass over one axis: x[l, t, r], F[t, j] and z[l, j, r] of columns (l, r), counted from the first of those that
// share a factor. Beyond the last of each there are zeros to read, and nothing is written.
//
// 0 x: array<One>, element x_at((l*P + t)*R + r)        1 factor: array<f32>, F[t, j] at own + t*f_t + j*f_j
// 2 z: array<f32>, z_at((l*Q + j)*R + r)
@group(0) @binding(0) var<storage, read> x: array<One>;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;

// Where a workgroup's tile begins.
struct Tile {
    // The set of columns that share a factor, its first column among all and its factor.
    base: u32,
    own: u32,
    // The tile's first column of the set, and its first j.
    column: u32,
    j: u32,
}

fn tile_of(index: u32, columns: u32, outputs: u32) -> Tile {
    let across = (p.q + outputs - 1u) / outputs;
    let tiles = (p.set_columns + columns - 1u) / columns;
    let group = index / across / tiles;
    let own = p.f_offset + (p.f_set + group) * p.f_batch;
    return Tile(group * p.set_columns, own, columns * (index / across % tiles), outputs * (index % across));
}

// Item i of a column among all, of so many to a column.
fn address(column: u32, items: u32, item: u32) -> u32 {
    return ((p.first_unit + column / p.r) * items + item) * p.r + column % p.r;
}

fn x_item(tile: Tile, column: u32, t: u32) -> f32 {
    var item = 0.0;
    if (column < p.set_columns && t < p.p) {
        let at = x_at(address(tile.base + column, p.p, t));
        item = widen_one(x[at >> ONES_SHIFT], at);
    }
    return item;
}

fn entry(tile: Tile, t: u32, j: u32) -> f32 {
    var found = 0.0;
    if (t < p.p && j < p.q) {
        found = factor[tile.own + t * p.f_t + j * p.f_j];
    }
    return found;
}

// alpha sum + beta z
fn keep(tile: Tile, column: u32, j: u32, sum: f32) {
    if (column < p.set_columns && j < p.q) {
        let at = z_at(address(tile.base + column, p.q, j));
        var y = p.alpha * sum;
        if (p.beta != 0.0) {
            y = fma(p.beta, z[at], y);
        }
        z[at] = y;
    }
}
