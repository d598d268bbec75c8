// One axis of x multiplied by a factor on matrix units: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]. A workgroup
// has TILE columns (l, r) and TILE j, each of its four subgroups two by two squares of them; both operands go through workgroup
// memory as halves, STEP t at a time.
//
// Columns of x and of F are multiplied by powers of two, so that the largest item v of each has 2^14 <= |v| < 2^15, and cut in two:
//
//   v = high + low / 2^11 + e        high, low: 11 bits each        |e| <= max(2^-23 |v|, 2^-25)
//   sum_t x F = sum_t high high + (sum_t high low + low high) / 2^11        but for low low, at most 2^-22 |x F|
//
// EXACT: items of x are f16, so that low is 0. Items so small that e may count where terms cancel make an element's sum, if it is
// small, be summed once more without units; so does what is not finite.
//
// 0 x, 1 factor, 2 z: see `stage_items`
const TILE: u32 = 4u * SIDE;
const STEP: u32 = 16u;
const THREADS: u32 = UNITS * LANES;
const LOW: f32 = 2048.0;
// Of x and F, which have them.
const LOWS: u32 = select(2u, 1u, EXACT);

// Rows of halves and of sums are that much apart, in multiples of 16 bytes.
const SHORT: u32 = STEP + 8u;
const LONG: u32 = TILE + 8u;
const PITCH: u32 = SIDE + 4u;

// Parts of STEP t by TILE: high of F, low of F, high of x, low of x.
const AREA: u32 = TILE * SHORT;
const X: u32 = 2u * AREA;
var<workgroup> halves: array<f16, 4u * AREA>;
// For each unit a square of sums of high high and one of the rest.
const SQUARE: u32 = SIDE * PITCH;
var<workgroup> wide: array<f32, 2u * UNITS * SQUARE>;
// For the columns of x, then those of F: the binary logarithm of what they are multiplied by, and the least sum that then holds.
var<workgroup> power: array<i32, 2u * TILE>;
var<workgroup> least: array<f32, 2u * TILE>;
// More than any sum.
const NEVER: f32 = 1e30;

// 2^n, -126 <= n <= 127
fn exp2_whole(n: i32) -> f32 {
    return bitcast<f32>(u32(n + 127) << 23u);
}

// To 11 bits, so that conversion to f16 is exact.
fn rounded(v: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(v) + 0x1000u) & 0xffffe000u);
}

// High and low of an item: none is subnormal but lows below 2^-25, whatever units make of them.
fn cut(v: f32) -> vec2f {
    let high = select(0.0, rounded(v), abs(v) >= 0x1p-14);
    return vec2f(high, rounded((v - high) * LOW));
}

// Column c of x, or after those of F.
fn given(tile: Tile, c: u32, t: u32) -> f32 {
    if (c < TILE) {
        return x_item(tile, tile.column + c, t);
    }
    return entry(tile, t, tile.j + c - TILE);
}

fn weigh(tile: Tile, c: u32) {
    // As words, magnitudes have the order of numbers; zeros are more than all others here.
    var most = 0u;
    var small = 0xffffffffu;
    for (var t = 0u; t < p.p; t++) {
        let bits = bitcast<u32>(given(tile, c, t)) & 0x7fffffffu;
        most = max(most, bits);
        small = min(small, bits - 1u);
    }
    let n = clamp(141 - i32(most >> 23u), -113, 126);
    // The exponent of the smallest item that is not zero.
    let exponent = i32((small + 1u) >> 23u) - 127 + n;
    let any = most > 0u;
    var limit = 0.0;
    if (EXACT && c < TILE) {
        limit = select(0.0, NEVER, any && exponent < -14);
    } else {
        // 2^-23 of such a sum is no less than what P products lose: 2^-25 by 2^15, and 2^-14 by 2^3 of low low, of both sides.
        limit = select(0.0, 32768.0 * f32(p.p), any && exponent < -2);
    }
    power[c] = n;
    least[c] = select(limit, NEVER, most >= 0x7f800000u);
}

// STEP t of x and F from t on.
fn stage(tile: Tile, t: u32, lid: u32) {
    for (var e = lid; e < TILE * STEP; e += THREADS) {
        // Neighbours read neighbouring words, and write neighbouring halves.
        let column = select(e / STEP, e % TILE, COLUMNS);
        let x_row = select(e % STEP, e / TILE, COLUMNS);
        let a = cut(x_item(tile, tile.column + column, t + x_row) * exp2_whole(power[column]));
        let into = X + select(column * SHORT + x_row, x_row * LONG + column, COLUMNS);
        halves[into] = f16(a.x);
        if (!EXACT) {
            halves[into + AREA] = f16(a.y);
        }
        let j = select(e / STEP, e % TILE, ROWS);
        let f_row = select(e % STEP, e / TILE, ROWS);
        let b = cut(entry(tile, t + f_row, tile.j + j) * exp2_whole(power[TILE + j]));
        let to = select(j * SHORT + f_row, f_row * LONG + j, ROWS);
        halves[to] = f16(b.x);
        halves[to + AREA] = f16(b.y);
    }
}

// Columns from `column` on of the k-th t on, of a part of x.
fn left(part: u32, column: u32, k: u32) -> Left {
    if (COLUMNS) {
        return left_by_columns(part + k * LONG + column, LONG);
    }
    return left_by_rows(part + column * SHORT + k, SHORT);
}

fn right(part: u32, j: u32, k: u32) -> Right {
    if (ROWS) {
        return right_by_rows(part + k * LONG + j, LONG);
    }
    return right_by_columns(part + j * SHORT + k, SHORT);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        // Where subgroups are smaller than they were taken for, there are more than there are units.
        multiply(tile_of(p.first + index, TILE, TILE), lid, min(subgroup, UNITS - 1u), lane);
    }
}

fn multiply(tile: Tile, lid: u32, unit: u32, lane: u32) {
    for (var c = lid; c < 2u * TILE; c += THREADS) {
        weigh(tile, c);
    }
    let column = unit / 2u * 2u * SIDE;
    let j = unit % 2u * 2u * SIDE;
    var sum00 = no_sums();
    var sum01 = no_sums();
    var sum10 = no_sums();
    var sum11 = no_sums();
    var rest00 = no_sums();
    var rest01 = no_sums();
    var rest10 = no_sums();
    var rest11 = no_sums();
    for (var t = 0u; t < p.p; t += STEP) {
        workgroupBarrier();
        stage(tile, t, lid);
        workgroupBarrier();
        for (var k = 0u; k < STEP; k += SIDE) {
            let a0 = left(X, column, k);
            let a1 = left(X, column + SIDE, k);
            let b0 = right(0u, j, k);
            let b1 = right(0u, j + SIDE, k);
            sum00 = add_product(a0, b0, sum00, lane);
            sum01 = add_product(a0, b1, sum01, lane);
            sum10 = add_product(a1, b0, sum10, lane);
            sum11 = add_product(a1, b1, sum11, lane);
            // The highs of x by the lows of F, then the lows of x by the highs of F.
            for (var low = 0u; low < LOWS; low++) {
                let c0 = left(X + low * AREA, column, k);
                let c1 = left(X + low * AREA, column + SIDE, k);
                let d0 = right((1u - low) * AREA, j, k);
                let d1 = right((1u - low) * AREA, j + SIDE, k);
                rest00 = add_product(c0, d0, rest00, lane);
                rest01 = add_product(c0, d1, rest01, lane);
                rest10 = add_product(c1, d0, rest10, lane);
                rest11 = add_product(c1, d1, rest11, lane);
            }
        }
    }
    put(tile, 0u, 0u, sum00, rest00, lid, unit, lane);
    put(tile, 0u, SIDE, sum01, rest01, lid, unit, lane);
    put(tile, SIDE, 0u, sum10, rest10, lid, unit, lane);
    put(tile, SIDE, SIDE, sum11, rest11, lid, unit, lane);
}

// Writes the square of every unit that is so many columns and j from its first.
fn put(tile: Tile, down: u32, across: u32, sums: Sums, rest: Sums, lid: u32, unit: u32, lane: u32) {
    workgroupBarrier();
    keep_sums(2u * unit * SQUARE, PITCH, sums, lane);
    keep_sums((2u * unit + 1u) * SQUARE, PITCH, rest, lane);
    workgroupBarrier();
    for (var e = lid; e < UNITS * SIDE * SIDE; e += THREADS) {
        let own_unit = e / (SIDE * SIDE);
        let row = select(e / SIDE % SIDE, e % SIDE, COLUMNS);
        let place = select(e % SIDE, e / SIDE % SIDE, COLUMNS);
        let column = own_unit / 2u * 2u * SIDE + down + row;
        let j = own_unit % 2u * 2u * SIDE + across + place;
        let at = 2u * own_unit * SQUARE + row * PITCH + place;
        let scaled = fma(wide[at + SQUARE], 1.0 / LOW, wide[at]);
        // Half of the powers and the other half: nothing between is larger or smaller than both ends.
        let n = power[column] + power[TILE + j];
        var sum = scaled * exp2_whole(-(n / 2)) * exp2_whole(n / 2 - n);
        if (!(abs(scaled) >= max(least[column], least[TILE + j]))) {
            sum = plain_sum(tile, tile.column + column, tile.j + j);
        }
        keep(tile, tile.column + column, tile.j + j, sum);
    }
}

fn plain_sum(tile: Tile, column: u32, j: u32) -> f32 {
    var sum = 0.0;
    for (var t = 0u; t < p.p; t++) {
        sum = fma(x_item(tile, column, t), entry(tile, t, j), sum);
    }
    return sum;
}
