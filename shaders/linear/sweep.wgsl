// A walk that has a state's columns all in one subgroup, for the gradients on software adapters: each row of the state is read
// once a block of TOKENS tokens, for readers of its rows and of its columns alike, and written back.
//
// What has a number for every column of the state is spread over the lanes, four columns each, COLUMNS times: those of one
// token are one `Columns`. What has one for every row is held by the lane that stands for the token, four rows at a time, and
// goes round by shuffles: a software adapter serves every lane's load by itself. Sums over columns are sums over lanes; those of
// LANES tokens are exchanged so that each lane gets its token's.
//
// Loops run over whole arrays: Mesa unrolls these whatever their size, and indexes what is left rolled up lane by lane.
const TOKENS: u32 = HELD * LANES;

alias Columns = array<vec4f, COLUMNS>;
alias OfTokens = array<array<Columns, LANES>, HELD>;
alias StateRows = array<Columns, 4>;
// Four rows, and a number, of every token that a lane stands for.
alias Held = array<vec4f, HELD>;
alias Numbers = array<f32, HELD>;
// A number for every token and every token that a lane stands for.
alias Pairs = array<array<Numbers, LANES>, HELD>;

// Tokens anchor, anchor + 1, .. or anchor - 1, .. of a sequence that ends at `last`, the state before and after them, and
// whether they are the first of their chunk, which is the n-th of the sequence.
struct Block {
    rows: Rows,
    head: u32,
    last: u32,
    anchor: u32,
    count: u32,
    from_at: u32,
    to_at: u32,
    first: bool,
    slot_at: u32,
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        sweep(span_of(index), local.x);
    }
}

// Where states are kept, a walk back leaves one before every chunk, and a walk on goes on in the last.
fn sweep(here: Span, lane: u32) {
    let size = p.key * p.value;
    let base = here.state_at * size;
    let rows = rows_of(here.batch, here.head, p.state_heads);
    let kept = select(0u, size, KEEP);
    let resting = base + (here.last - here.first + CHUNK_TOKENS - 1u) / CHUNK_TOKENS * kept;
    if (!RESUMES) {
        let at = select(resting, base + (here.end - here.first + CHUNK_TOKENS - 1u) / CHUNK_TOKENS * kept, REVERSE);
        for (var r = 0u; r < p.key / 4u; r++) {
            var zero: StateRows;
            put_rows(lane, at + 4u * r * p.value, &zero);
        }
    }
    let chunks = (here.end - here.begin + CHUNK_TOKENS - 1u) / CHUNK_TOKENS;
    for (var n = 0u; n < chunks; n++) {
        let begin = here.begin + select(n, chunks - 1u - n, REVERSE) * CHUNK_TOKENS;
        let tokens = min(CHUNK_TOKENS, here.end - begin);
        let slot_at = base + (begin - here.first) / CHUNK_TOKENS * kept;
        var from_at = select(resting, slot_at + kept, REVERSE);
        let to_at = select(resting, slot_at, REVERSE);
        for (var done = 0u; done < tokens; done += TOKENS) {
            let anchor = begin + select(done, tokens - 1u - done, REVERSE);
            pass_block(Block(rows, here.head, here.last, anchor, min(TOKENS, tokens - done), from_at, to_at, done == 0u, slot_at), lane);
            from_at = to_at;
        }
    }
    close(here, lane);
}

fn held_token(lane: u32, i: u32) -> u32 {
    return i * LANES + lane;
}

// The row of the n-th token of a block, or of its last one.
fn token_row(b: Block, n: u32) -> u32 {
    return b.rows.first + token(b, n) * b.rows.stride;
}

fn token(b: Block, n: u32) -> u32 {
    let i = min(n, b.count - 1u);
    return select(b.anchor + i, b.anchor - i, REVERSE);
}

fn key_vector(row: u32, r: u32) -> u32 {
    return (p.k_offset + row * p.key) / 4u + r;
}

fn live(lane: u32, c: u32) -> bool {
    return (c * LANES + lane) * 4u < p.value;
}

fn value_vector(row: u32, lane: u32, c: u32) -> u32 {
    return (p.v_offset + row * p.value) / 4u + select(0u, c * LANES + lane, live(lane, c));
}

fn rows_at(lane: u32, at: u32) -> StateRows {
    var s: StateRows;
    for (var n = 0u; n < 4u; n++) {
        for (var c = 0u; c < COLUMNS; c++) {
            let i = (p.state_offset + at + n * p.value) / 4u + select(0u, c * LANES + lane, live(lane, c));
            s[n][c] = select(vec4f(), state[i], live(lane, c));
        }
    }
    return s;
}

fn put_rows(lane: u32, at: u32, s: ptr<function, StateRows>) {
    for (var n = 0u; n < 4u; n++) {
        for (var c = 0u; c < COLUMNS; c++) {
            if (live(lane, c)) {
                state[(p.state_offset + at + n * p.value) / 4u + c * LANES + lane] = (*s)[n][c];
            }
        }
    }
}

// x[l] of all lanes is summed for lane l.
fn numbers_to_lanes(lane: u32, x: array<f32, LANES>) -> f32 {
    var y = x;
    for (var s = 1u; s <= LANE_BITS; s++) {
        let half = LANES >> s;
        let upper = (lane & half) != 0u;
        for (var i = 0u; i < LANES / 2u; i++) {
            if (i < half) {
                let kept = select(y[i], y[i + half], upper);
                y[i] = kept + subgroupShuffleXor(select(y[i + half], y[i], upper), half);
            }
        }
    }
    return y[0];
}

fn vectors_to_lanes(lane: u32, x: array<vec4f, LANES>) -> vec4f {
    var y = x;
    for (var s = 1u; s <= LANE_BITS; s++) {
        let half = LANES >> s;
        let upper = (lane & half) != 0u;
        for (var i = 0u; i < LANES / 2u; i++) {
            if (i < half) {
                let kept = select(y[i], y[i + half], upper);
                y[i] = kept + subgroupShuffleXor(select(y[i + half], y[i], upper), half);
            }
        }
    }
    return y[0];
}

// A sum over the lanes, for all of them.
fn over_lanes(x: vec4f) -> vec4f {
    var sum = x;
    for (var s = 1u; s <= LANE_BITS; s++) {
        sum += subgroupShuffleXor(sum, LANES >> s);
    }
    return sum;
}

// Sums over earlier tokens, and over all.
fn sums_before(lane: u32, x: Held, total: ptr<function, vec4f>) -> Held {
    var before: Held;
    *total = vec4f();
    for (var i = 0u; i < HELD; i++) {
        var sum = x[i];
        for (var s = 0u; s < LANE_BITS; s++) {
            let other = subgroupShuffle(sum, max(lane, 1u << s) - (1u << s));
            sum += select(vec4f(), other, lane >= (1u << s));
        }
        let earlier = subgroupShuffle(sum, max(lane, 1u) - 1u);
        before[i] = *total + select(vec4f(), earlier, lane > 0u);
        *total += subgroupShuffle(sum, LANES - 1u);
    }
    return before;
}

// Factors of a walker: before each token; from the block's start to a held token and from there to the block's end; of the whole
// block. Where rows fade by themselves all are 1.
struct Gates {
    step: array<array<f32, LANES>, HELD>,
    win: Numbers,
    tail: Numbers,
    block: Fade,
}

fn gates_of(b: Block, lane: u32) -> Gates {
    var g: Gates;
    var held: Numbers;
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        held[i] = 0.0;
        if (DECAY == DECAY_SCALAR) {
            let t = token(b, n);
            let x = token_log_decay(b.head, b.rows.first + fading_token(t, b.last) * b.rows.stride);
            held[i] = select(0.0, x, n < b.count && fades(t, b.last));
        }
        g.win[i] = 1.0;
        g.tail[i] = select(0.0, 1.0, n < b.count);
    }
    var sum = 0.0;
    for (var i = 0u; i < HELD; i++) {
        let factor = exp(held[i]);
        for (var l = 0u; l < LANES; l++) {
            if (DECAY == DECAY_SCALAR) {
                sum += subgroupShuffle(held[i], l);
                let f = subgroupShuffle(factor, l);
                g.step[i][l] = f;
                for (var h = 0u; h < HELD; h++) {
                    let later = i * LANES + l > held_token(lane, h);
                    g.win[h] *= select(f, 1.0, later);
                    g.tail[h] *= select(1.0, f, later);
                }
            } else {
                g.step[i][l] = 1.0;
            }
        }
    }
    g.block = fade(vec4f(sum));
    return g;
}

// The same for four rows, where these fade by themselves; 1 otherwise.
struct RowGates {
    factor: Held,
    win: Held,
    tail: Held,
    block: Fade,
}

fn row_gates(b: Block, lane: u32, r: u32, gates: ptr<function, Gates>) -> RowGates {
    var g: RowGates;
    g.block = (*gates).block;
    var sum = vec4f();
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        var x = vec4f();
        if (DECAY == DECAY_ROWS) {
            let t = token(b, n);
            let row = b.rows.first + fading_token(t, b.last) * b.rows.stride;
            x = select(x, channel_log_decay(row, 4u * r, p.key), n < b.count && fades(t, b.last));
        }
        sum += x;
        g.factor[i] = exp(x);
        g.win[i] = vec4f((*gates).win[i]);
        g.tail[i] = vec4f((*gates).tail[i]);
    }
    if (DECAY == DECAY_ROWS) {
        g.block = fade(over_lanes(sum));
        for (var i = 0u; i < HELD; i++) {
            var win = g.factor[i];
            let next = subgroupShuffle(g.factor[i], min(lane + 1u, LANES - 1u));
            var tail = select(vec4f(1.0), next, lane + 1u < LANES);
            for (var s = 0u; s < LANE_BITS; s++) {
                let shift = 1u << s;
                win *= select(vec4f(1.0), subgroupShuffle(win, max(lane, shift) - shift), lane >= shift);
                tail *= select(vec4f(1.0), subgroupShuffle(tail, min(lane + shift, LANES - 1u)), lane + shift < LANES);
            }
            let whole = subgroupShuffle(win, LANES - 1u);
            for (var h = 0u; h < HELD; h++) {
                if (h < i) {
                    g.tail[h] *= whole;
                }
                if (h == i) {
                    g.win[h] *= win;
                    g.tail[h] *= tail;
                }
                if (h > i) {
                    g.win[h] *= whole;
                }
            }
        }
    }
    return g;
}

// Products b_j . w_t of earlier tokens' columns j with a held token's t, times the factors between them, and that of t's own.
fn products(lane: u32, gates: ptr<function, Gates>, b: ptr<function, OfTokens>, w: ptr<function, OfTokens>, table: ptr<function, Pairs>, own: ptr<function, Numbers>) {
    for (var i = 0u; i < HELD; i++) {
        (*own)[i] = 0.0;
    }
    for (var j = 0u; j < HELD; j++) {
        for (var m = 0u; m < LANES; m++) {
            for (var i = 0u; i < HELD; i++) {
                var earlier = 0.0;
                if (i >= j) {
                    var part: array<f32, LANES>;
                    for (var l = 0u; l < LANES; l++) {
                        var sum = 0.0;
                        for (var c = 0u; c < COLUMNS; c++) {
                            sum += dot((*b)[j][m][c], (*w)[i][l][c]);
                        }
                        part[l] = sum;
                    }
                    let sum = numbers_to_lanes(lane, part);
                    let n = held_token(lane, i);
                    earlier = select(0.0, sum, j * LANES + m < n);
                    (*own)[i] = select((*own)[i], sum, j * LANES + m == n);
                }
                (*table)[j][m][i] = earlier;
            }
        }
    }
    if (DECAY == DECAY_SCALAR) {
        var between: Numbers;
        for (var i = 0u; i < HELD; i++) {
            between[i] = 1.0;
        }
        for (var back = 0u; back < HELD; back++) {
            let j = HELD - 1u - back;
            for (var before = 0u; before < LANES; before++) {
                let m = LANES - 1u - before;
                for (var i = 0u; i < HELD; i++) {
                    (*table)[j][m][i] *= between[i];
                    between[i] *= select(1.0, (*gates).step[j][m], j * LANES + m <= held_token(lane, i));
                }
            }
        }
    }
}

// What the columns w of every token read of four rows of the state.
fn read_rows(lane: u32, s: ptr<function, StateRows>, w: ptr<function, OfTokens>) -> Held {
    var sums: Held;
    for (var i = 0u; i < HELD; i++) {
        var part: array<vec4f, LANES>;
        for (var l = 0u; l < LANES; l++) {
            var sum = vec4f();
            for (var c = 0u; c < COLUMNS; c++) {
                let x = (*w)[i][l][c];
                sum += vec4f(dot((*s)[0][c], x), dot((*s)[1][c], x), dot((*s)[2][c], x), dot((*s)[3][c], x));
            }
            part[l] = sum;
        }
        sums[i] = vectors_to_lanes(lane, part);
    }
    return sums;
}

// Adds a b^T of every token to four rows of the state.
fn add_rows(a: Held, b: ptr<function, OfTokens>, s: ptr<function, StateRows>) {
    for (var i = 0u; i < HELD; i++) {
        for (var l = 0u; l < LANES; l++) {
            let row = subgroupShuffle(a[i], l);
            for (var c = 0u; c < COLUMNS; c++) {
                let x = (*b)[i][l][c];
                (*s)[0][c] = fma(vec4f(row.x), x, (*s)[0][c]);
                (*s)[1][c] = fma(vec4f(row.y), x, (*s)[1][c]);
                (*s)[2][c] = fma(vec4f(row.z), x, (*s)[2][c]);
                (*s)[3][c] = fma(vec4f(row.w), x, (*s)[3][c]);
            }
        }
    }
}

// Four rows of the state after the block, with what it adds.
fn fade_rows(lane: u32, block: Fade, s: ptr<function, StateRows>, added: ptr<function, StateRows>) {
    for (var n = 0u; n < 4u; n++) {
        for (var c = 0u; c < COLUMNS; c++) {
            var f = block;
            if (DECAY == DECAY_ROWS) {
                f = fade_of_row(block, n);
            }
            (*s)[n][c] = faded(f, (*s)[n][c]) + (*added)[n][c];
        }
    }
}
