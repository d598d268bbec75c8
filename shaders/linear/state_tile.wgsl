// The state tile of a workgroup in registers, and its update by a chunk of CHUNK tokens:
//
//   S <- W S + sum_j W_j a_j u_j^T        W the factors of all the chunk's tokens, W_j of those after j
//
// 256 invocations as TX columns (4 values each) by TY rows; an invocation owns S_ROWS consecutive rows of KEY_PAD.
// Every exponent is <= 0, those of padded rows included.
const TX: u32 = VALUE_TILE / 4u;
const TY: u32 = 256u / TX;
const S_ROWS: u32 = KEY_PAD / TY;
const KEY_VECS: u32 = KEY_PAD / 4u;

var<private> s: array<vec4f, S_ROWS>;
// What the chunk adds, summed by itself: S is rounded once a chunk and not once a token, which counts in long sums.
var<private> added: array<vec4f, S_ROWS>;
// The sum of keys, and what the chunk adds to it.
var<workgroup> keys_sum: array<vec4f, Z_VECS>;
var<private> keys_added: vec4f;
// Sums of the chunk's log decays for each row of the state, where rows fade.
var<workgroup> row_decays: array<vec4f, ROW_VECS>;
// Sums of all log decays: of the whole state, of 4 rows or of the invocation's columns.
var<private> total: vec4f;

fn load_state(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.state_offset + at, left);
    return gather_state(left, state[c.x], state[c.y], state[c.z], state[c.w]);
}

fn slot_at(span: Span, slot: u32) -> u32 {
    return (span.state_at + slot) * p.key * p.value;
}

// The slot of the state between two tokens, where one is kept for every CHUNK_TOKENS.
fn slot_before(span: Span, t: u32) -> u32 {
    return select(0u, (t - span.first + CHUNK_TOKENS - 1u) / CHUNK_TOKENS, KEEP);
}

fn start_state(here: Place, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let from_at = slot_at(here.span, slot_before(here.span, select(here.span.begin, here.span.end, REVERSE)));
    for (var i = 0u; i < S_ROWS; i++) {
        let row = lid / TX * S_ROWS + i;
        let live = row < p.key && column < p.value;
        s[i] = vec4f();
        if (RESUMES) {
            let start = load_state(from_at + select(0u, row * p.value + column, live), select(1u, p.value - column, live));
            s[i] = select(vec4f(), start, live);
        }
    }
    if (NORMALIZE && lid < KEY_VECS) {
        let live = 4u * lid < p.key;
        var start = vec4f();
        if (RESUMES) {
            start = z_start(z_at(here) + select(0u, 4u * lid, live), select(1u, p.key - 4u * lid, live));
        }
        keys_sum[lid] = select(vec4f(), start, live);
    }
    total = vec4f();
}

fn z_at(here: Place) -> u32 {
    return (here.span.state_at * p.slices + here.slice) * p.key;
}

fn write_state(here: Place, slot: u32, lid: u32) {
    let at = slot_at(here.span, slot);
    let column = here.column + 4u * (lid % TX);
    for (var i = 0u; i < S_ROWS; i++) {
        let row = lid / TX * S_ROWS + i;
        if (row < p.key && column < p.value) {
            put_state(at + row * p.value + column, p.value - column, s[i]);
        }
    }
}

fn write_ends(here: Place, lid: u32) {
    if (NORMALIZE && 4u * lid < p.key) {
        put_z(z_at(here) + 4u * lid, p.key - 4u * lid, keys_sum[lid]);
    }
    if (DECAY == DECAY_SCALAR && lid == 0u && here.slice == 0u) {
        put_total(here.span.state_at, 1u, total);
    }
    if (DECAY == DECAY_ROWS && 4u * lid < p.key && here.slice == 0u) {
        put_total(here.span.state_at * p.key + 4u * lid, p.key - 4u * lid, total);
    }
    let column = here.column + 4u * lid;
    if (DECAY == DECAY_COLUMNS && lid < TX && column < p.value) {
        put_total(here.span.state_at * p.value + column, p.value - column, total);
    }
}

// To be followed by a barrier before `update_state`.
fn open_rows(here: Place, chunk: Chunk, lid: u32) {
    if (DECAY == DECAY_ROWS) {
        workgroupBarrier();
        if (lid < KEY_VECS) {
            var sum = vec4f();
            for (var i = 0u; i < CHUNK; i++) {
                sum += channels_at(here, chunk, i, 4u * lid, p.key);
            }
            row_decays[lid] = sum;
        }
    }
}

// The factors of the tokens after i, for 4 rows.
fn tail(here: Place, chunk: Chunk, i: u32, row: u32) -> vec4f {
    if (DECAY == DECAY_SCALAR) {
        return vec4f(exp(log_tail(i)));
    }
    var sum = vec4f();
    if (DECAY == DECAY_ROWS) {
        for (var n = i + 1u; n < chunk.length; n++) {
            sum += channels_at(here, chunk, n, row, p.key);
        }
    }
    return exp(sum);
}

fn clear_added() {
    for (var i = 0u; i < S_ROWS; i++) {
        added[i] = vec4f();
    }
    keys_added = vec4f();
}

fn update_state(here: Place, chunk: Chunk, lid: u32) {
    var sum = vec4f(0.0);
    if (DECAY == DECAY_SCALAR) {
        sum = vec4f(log_all());
        total += sum;
    }
    if (DECAY == DECAY_COLUMNS) {
        for (var i = 0u; i < CHUNK; i++) {
            sum += channels_at(here, chunk, i, here.column + 4u * (lid % TX), p.value);
        }
        total += sum;
    }
    var f = fade(sum);
    for (var i = 0u; i < S_ROWS; i++) {
        if (DECAY == DECAY_ROWS) {
            let row = lid / TX * S_ROWS + i;
            f = fade(vec4f(row_decays[row / 4u][row % 4u]));
        }
        s[i] = faded(f, s[i]) + added[i];
    }
    if ((NORMALIZE || DECAY == DECAY_ROWS) && lid < KEY_VECS) {
        if (DECAY == DECAY_ROWS) {
            total += row_decays[lid];
            f = fade(row_decays[lid]);
        }
        if (NORMALIZE) {
            keys_sum[lid] = faded(f, keys_sum[lid]) + keys_added;
        }
    }
}
