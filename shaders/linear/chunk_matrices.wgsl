// The products of `chunk` by matrix units, for f16 tensors where at most one factor acts on the whole state. UNITS subgroups of LANES
// invocations share the squares of a product; operands are halves in workgroup memory, results come back through `wide`.
//
// Operands that are not f16 already are sums of two halves, which keeps 22 bits of them: S and the scores, each with a power of two
// of its own that keeps it in range, and a with its factors.
const CHANNELS: u32 = 32u;
const SQUARE: u32 = SIDE * SIDE;
const ACROSS: u32 = VALUE_TILE / SIDE;

// Halves from row to row, eight to spare, which spreads rows over the banks and keeps them aligned.
const SCORE_STRIDE: u32 = CHUNK + 8u;
const X_STRIDE: u32 = CHANNELS + 8u;
const COLUMN_STRIDE: u32 = VALUE_TILE + 8u;
const KEY_STRIDE: u32 = KEY_PAD + 8u;

// First CHANNELS channels of x, of a and of S, then the scores and TOKEN_SLAB tokens of b and of a. Lower halves follow the upper ones.
const AT_X: u32 = 0u;
const AT_A: u32 = AT_X + CHUNK * X_STRIDE;
const AT_STATE: u32 = AT_A + CHUNK * X_STRIDE;
const STATE_LOW: u32 = CHANNELS * COLUMN_STRIDE;
const SCORES_LOW: u32 = CHUNK * SCORE_STRIDE;
const AT_VALUES: u32 = 2u * SCORES_LOW;
const AT_KEYS: u32 = AT_VALUES + TOKEN_SLAB * COLUMN_STRIDE;
const KEYS_LOW: u32 = TOKEN_SLAB * KEY_STRIDE;

var<workgroup> halves: array<f16, HALVES>;
var<workgroup> wide: array<f32, WIDE>;
var<workgroup> peaks: array<f32, 272>;

// A unit has every UNITS-th square, or the last once more.
const SCORE_SQUARES: u32 = CHUNK * CHUNK / SQUARE;
const OUT_SQUARES: u32 = CHUNK * ACROSS / SIDE;
const STATE_SQUARES: u32 = KEY_PAD * ACROSS / SIDE;
var<private> score_sums: array<Sums, (SCORE_SQUARES + UNITS - 1u) / UNITS>;
var<private> out_sums: array<Sums, (OUT_SQUARES + UNITS - 1u) / UNITS>;
var<private> state_sums: array<Sums, (STATE_SQUARES + UNITS - 1u) / UNITS>;

var<private> unit: u32;
var<private> lane: u32;
var<private> score_scale: f32;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) own_lane: u32,
) {
    unit = subgroup;
    lane = own_lane;
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn put_halves(at: u32, x: vec4f) {
    for (var i = 0u; i < 4u; i++) {
        halves[at + i] = f16(x[i]);
    }
}

fn put_split(at: u32, low: u32, x: f32) {
    let high = f16(x);
    halves[at] = high;
    halves[at + low] = f16(x - f32(high));
}

fn put_split_vec(at: u32, low: u32, x: vec4f) {
    for (var i = 0u; i < 4u; i++) {
        put_split(at + i, low, x[i]);
    }
}

fn wide_vec(at: u32) -> vec4f {
    return vec4f(wide[at], wide[at + 1u], wide[at + 2u], wide[at + 3u]);
}

// The largest of finite magnitudes.
fn peak(x: vec4f) -> f32 {
    let size = select(vec4f(), abs(x), abs(x) <= vec4f(3.4028234e38));
    return max(max(size.x, size.y), max(size.z, size.w));
}

// The largest of what all invocations have, for `largest` to find.
fn share_peak(mine: f32, lid: u32) {
    workgroupBarrier();
    peaks[lid] = mine;
    workgroupBarrier();
    if (lid < 16u) {
        var most = 0.0;
        for (var i = 0u; i < 16u; i++) {
            most = max(most, peaks[16u * lid + i]);
        }
        peaks[256u + lid] = most;
    }
    workgroupBarrier();
}

fn largest() -> f32 {
    var most = 0.0;
    for (var i = 0u; i < 16u; i++) {
        most = max(most, peaks[256u + i]);
    }
    return most;
}

// The power of two that brings a peak to 2^12 .. 2^13, and its inverse.
fn exponent(peak: f32) -> u32 {
    return clamp(bitcast<u32>(peak) >> 23u, 13u, 250u);
}

fn scale_of(peak: f32) -> f32 {
    return bitcast<f32>((266u - exponent(peak)) << 23u);
}

fn unscale_of(peak: f32) -> f32 {
    return bitcast<f32>((exponent(peak) - 12u) << 23u);
}

fn miss(here: Place, chunk: Chunk, lid: u32) {}

// out = (W x)^T S, and the scores of x where asked.
fn read_state(here: Place, chunk: Chunk, readers: Rows, keys: bool, scored: bool, lid: u32) {
    let tx = lid % TX;
    let first = lid / TX * O_ROWS;
    var most = 0.0;
    for (var i = 0u; i < S_ROWS; i++) {
        most = max(most, peak(s[i]));
    }
    share_peak(most, lid);
    most = largest();
    let scale = scale_of(most);
    for (var n = 0u; n < (SCORE_SQUARES + UNITS - 1u) / UNITS; n++) {
        score_sums[n] = no_sums();
    }
    for (var n = 0u; n < (OUT_SQUARES + UNITS - 1u) / UNITS; n++) {
        out_sums[n] = no_sums();
    }
    for (var slab = 0u; slab < KEY_PAD; slab += CHANNELS) {
        workgroupBarrier();
        for (var e = lid; e < CHUNK * CHANNELS / 4u; e += 256u) {
            let i = e / (CHANNELS / 4u);
            let c = 4u * (e % (CHANNELS / 4u));
            let live = i < chunk.length && slab + c < p.key;
            put_halves(AT_X + i * X_STRIDE + c, reader_row(row_at(readers, chunk, i), slab + c, live));
            if (scored) {
                put_halves(AT_A + i * X_STRIDE + c, source_row(row_at(here.keys, chunk, i), slab + c, live));
            }
        }
        for (var i = 0u; i < S_ROWS; i++) {
            let row = lid / TX * S_ROWS + i;
            if (row >= slab && row < slab + CHANNELS) {
                put_split_vec(AT_STATE + (row - slab) * COLUMN_STRIDE + 4u * tx, STATE_LOW, scale * s[i]);
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < CHANNELS; c += SIDE) {
            for (var n = 0u; n < (OUT_SQUARES + UNITS - 1u) / UNITS; n++) {
                let square = min(unit + n * UNITS, OUT_SQUARES - 1u);
                let x = left_by_rows(AT_X + square / ACROSS * SIDE * X_STRIDE + c, X_STRIDE);
                let at = AT_STATE + c * COLUMN_STRIDE + square % ACROSS * SIDE;
                out_sums[n] = add_product(x, right_by_rows(at, COLUMN_STRIDE), out_sums[n], lane);
                out_sums[n] = add_product(x, right_by_rows(at + STATE_LOW, COLUMN_STRIDE), out_sums[n], lane);
            }
            if (scored) {
                for (var n = 0u; n < (SCORE_SQUARES + UNITS - 1u) / UNITS; n++) {
                    let square = min(unit + n * UNITS, SCORE_SQUARES - 1u);
                    let x = left_by_rows(AT_X + square / (CHUNK / SIDE) * SIDE * X_STRIDE + c, X_STRIDE);
                    let a = right_by_columns(AT_A + square % (CHUNK / SIDE) * SIDE * X_STRIDE + c, X_STRIDE);
                    score_sums[n] = add_product(x, a, score_sums[n], lane);
                }
            }
        }
    }
    if (scored) {
        write_scores(lid);
    }
    add_outputs(unscale_of(most), true, lid);
    if (DECAY == DECAY_SCALAR && first < CHUNK) {
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] *= exp(log_win(first + i));
        }
    }
}

// The squares of outputs, to `out` in place of what is there or on top of it.
fn add_outputs(unscale: f32, fresh: bool, lid: u32) {
    workgroupBarrier();
    for (var n = 0u; n < (OUT_SQUARES + UNITS - 1u) / UNITS; n++) {
        let square = min(unit + n * UNITS, OUT_SQUARES - 1u);
        keep_sums((square / ACROSS * VALUE_TILE + square % ACROSS) * SIDE, VALUE_TILE, out_sums[n], lane);
    }
    workgroupBarrier();
    for (var i = 0u; i < O_ROWS; i++) {
        let r = lid / TX * O_ROWS + i;
        let sum = select(out[i], vec4f(), fresh);
        out[i] = sum;
        if (r < CHUNK) {
            out[i] = fma(vec4f(unscale), wide_vec(r * VALUE_TILE + 4u * (lid % TX)), sum);
        }
    }
}

fn write_scores(lid: u32) {
    workgroupBarrier();
    for (var n = 0u; n < (SCORE_SQUARES + UNITS - 1u) / UNITS; n++) {
        let square = min(unit + n * UNITS, SCORE_SQUARES - 1u);
        keep_sums((square / (CHUNK / SIDE) * CHUNK + square % (CHUNK / SIDE)) * SIDE, CHUNK, score_sums[n], lane);
    }
    workgroupBarrier();
    var most = 0.0;
    for (var e = lid; e < CHUNK * CHUNK; e += 256u) {
        let r = e / CHUNK;
        let j = e % CHUNK;
        var weight = 1.0;
        if (DECAY == DECAY_SCALAR) {
            weight = exp(log_between(min(j, r), r));
        }
        let score = select(0.0, weight * wide[e], j < r || (j == r && !STRICT));
        wide[e] = score;
        most = max(most, peak(vec4f(score)));
    }
    share_peak(most, lid);
    most = largest();
    score_scale = unscale_of(most);
    for (var e = lid; e < CHUNK * CHUNK; e += 256u) {
        put_split(e / CHUNK * SCORE_STRIDE + e % CHUNK, SCORES_LOW, scale_of(most) * wide[e]);
    }
}

// Adds the chunk's own terms to the outputs, and its tokens to what the state gains.
fn combine(here: Place, chunk: Chunk, reads: bool, adds: bool, lid: u32) {
    let column = 4u * (lid % TX);
    for (var n = 0u; n < (OUT_SQUARES + UNITS - 1u) / UNITS; n++) {
        out_sums[n] = no_sums();
    }
    for (var n = 0u; n < (STATE_SQUARES + UNITS - 1u) / UNITS; n++) {
        state_sums[n] = no_sums();
    }
    for (var slab = 0u; slab < CHUNK; slab += TOKEN_SLAB) {
        workgroupBarrier();
        for (var e = lid; e < TOKEN_SLAB * TX; e += 256u) {
            let i = slab + e / TX;
            let c = 4u * (e % TX);
            let live = i < chunk.length && here.column + c < p.value;
            put_halves(AT_VALUES + e / TX * COLUMN_STRIDE + c, source_column(row_at(here.values, chunk, i), here.column + c, live));
        }
        if (adds) {
            for (var e = lid; e < TOKEN_SLAB * KEY_VECS; e += 256u) {
                let i = slab + e / KEY_VECS;
                let row = 4u * (e % KEY_VECS);
                let a = source_row(row_at(here.keys, chunk, i), row, i < chunk.length && row < p.key);
                put_split_vec(AT_KEYS + e / KEY_VECS * KEY_STRIDE + row, KEYS_LOW, tail(here, chunk, i, row) * a);
            }
        }
        workgroupBarrier();
        for (var t = 0u; t < TOKEN_SLAB; t += SIDE) {
            if (reads) {
                for (var n = 0u; n < (OUT_SQUARES + UNITS - 1u) / UNITS; n++) {
                    let square = min(unit + n * UNITS, OUT_SQUARES - 1u);
                    let at = square / ACROSS * SIDE * SCORE_STRIDE + slab + t;
                    let b = right_by_rows(AT_VALUES + t * COLUMN_STRIDE + square % ACROSS * SIDE, COLUMN_STRIDE);
                    out_sums[n] = add_product(left_by_rows(at, SCORE_STRIDE), b, out_sums[n], lane);
                    out_sums[n] = add_product(left_by_rows(at + SCORES_LOW, SCORE_STRIDE), b, out_sums[n], lane);
                }
            }
            if (adds) {
                for (var n = 0u; n < (STATE_SQUARES + UNITS - 1u) / UNITS; n++) {
                    let square = min(unit + n * UNITS, STATE_SQUARES - 1u);
                    let at = AT_KEYS + t * KEY_STRIDE + square / ACROSS * SIDE;
                    let b = right_by_rows(AT_VALUES + t * COLUMN_STRIDE + square % ACROSS * SIDE, COLUMN_STRIDE);
                    state_sums[n] = add_product(left_by_columns(at, KEY_STRIDE), b, state_sums[n], lane);
                    state_sums[n] = add_product(left_by_columns(at + KEYS_LOW, KEY_STRIDE), b, state_sums[n], lane);
                }
            }
        }
    }
    if (reads) {
        add_outputs(score_scale, false, lid);
    }
    if (adds) {
        // As many rows of the state at a time as there is room for.
        let rows = WIDE / VALUE_TILE / SIDE * SIDE;
        for (var begin = 0u; begin < KEY_PAD; begin += rows) {
            workgroupBarrier();
            for (var n = 0u; n < (STATE_SQUARES + UNITS - 1u) / UNITS; n++) {
                let square = min(unit + n * UNITS, STATE_SQUARES - 1u);
                let row = square / ACROSS * SIDE;
                if (row >= begin && row < begin + rows) {
                    keep_sums((row - begin) * VALUE_TILE + square % ACROSS * SIDE, VALUE_TILE, state_sums[n], lane);
                }
            }
            workgroupBarrier();
            for (var i = 0u; i < S_ROWS; i++) {
                let row = lid / TX * S_ROWS + i;
                if (row >= begin && row < begin + rows) {
                    added[i] = wide_vec((row - begin) * VALUE_TILE + column);
                }
            }
        }
    }
}
