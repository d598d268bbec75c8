// Linear attention by chunks of CHUNK tokens, intra-chunk as a masked product and inter-chunk through the state S at the
// chunk's start (Lightning Attention-2). With W_r the factors of tokens up to r and M_rj those of tokens j+1 .. r:
//
//   y_r = scale * ( (W_r x_r)^T S + sum_{j<=r} (x_r . M_rj a_j) u_j )        j < r where STRICT
//   S  <- the update of `state_tile`
//   u_j = b_j, or with the delta rule beta_j e_j,  e = R (b - (W a)^T S),  R from `delta_prepare`
//
// Where columns fade, the factors act on y and u: y_r takes the terms of its chunk in order, fading as they did.
//
// A workgroup walks the chunks of one walker and segment with VALUE_TILE columns of S in registers.
var<workgroup> arena: array<vec4f, ARENA>;
var<workgroup> scores: array<f32, CHUNK * CHUNK>;

// Outputs: O_ROWS consecutive rows by 4 columns an invocation.
const O_ROWS: u32 = (CHUNK + TY - 1u) / TY;
var<private> out: array<vec4f, O_ROWS>;
var<private> den: array<f32, O_ROWS>;
var<private> missed: array<vec4f, O_ROWS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    start_state(here, lid);
    if (KEEP && SOURCES && !RESUMES) {
        write_state(here, slot_before(here.span, select(here.span.begin, here.span.end, REVERSE)), lid);
    }
    let chunks = (here.span.end - here.span.begin + CHUNK - 1u) / CHUNK;
    for (var n = 0u; n < chunks; n++) {
        let chunk = chunk_of(here.span, n, chunks);
        open_gates(here, chunk, lid);
        open_rows(here, chunk, lid);
        if (DELTA) {
            miss(here, chunk, lid);
        }
        clear_added();
        if (READS) {
            for (var reader = 0u; reader < GROUP; reader++) {
                let head = shared_head(here.span.head * GROUP + reader, p.state_heads * GROUP, p.q_heads);
                read_state(here, chunk, rows_of(here.span.batch, head, p.q_heads), false, SOURCES, lid);
                if (SOURCES) {
                    combine(here, chunk, true, reader + 1u == GROUP, lid);
                }
                write_outputs(here, chunk, reader, lid);
            }
        } else {
            combine(here, chunk, false, true, lid);
        }
        if (SOURCES) {
            update_state(here, chunk, lid);
            let passed = select(chunk.first + chunk.length, chunk.first, REVERSE);
            // The states between segments are kept already, and read by the next one.
            let between = p.segments > 1u && passed == select(here.span.end, here.span.begin, REVERSE);
            if (KEEP && !between && ((passed - here.span.first) % CHUNK_TOKENS == 0u || passed == here.span.end)) {
                write_state(here, slot_before(here.span, passed), lid);
            }
        }
    }
    if (SOURCES) {
        if (!KEEP) {
            write_state(here, 0u, lid);
        }
        write_ends(here, lid);
    }
}

// out = (W x)^T S, and the scores of x where asked; x is a where `keys`.
fn read_state(here: Place, chunk: Chunk, readers: Rows, keys: bool, scored: bool, lid: u32) {
    let tx = lid % TX;
    let first = lid / TX * O_ROWS;
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
        den[i] = 0.0;
    }
    clear_scores();
    for (var slab = 0u; slab < KEY_PAD; slab += 4u * CHANNEL_VECS) {
        workgroupBarrier();
        stage_rows(here, chunk, readers, slab, keys, scored, lid);
        for (var i = 0u; i < S_ROWS; i++) {
            let row = lid / TX * S_ROWS + i;
            if (row >= slab && row < slab + 4u * CHANNEL_VECS) {
                arena[ARENA_STATE + (row - slab) * TX + tx] = s[i];
            }
        }
        workgroupBarrier();
        if (scored) {
            add_scores(lid);
        }
        if (first < CHUNK) {
            for (var c = 0u; c < CHANNEL_VECS; c++) {
                let at = ARENA_STATE + 4u * c * TX + tx;
                let s0 = arena[at];
                let s1 = arena[at + TX];
                let s2 = arena[at + 2u * TX];
                let s3 = arena[at + 3u * TX];
                for (var i = 0u; i < O_ROWS; i++) {
                    let x = arena[ARENA_X + c * CHUNK + first + i];
                    out[i] = fma(vec4f(x.x), s0, fma(vec4f(x.y), s1, fma(vec4f(x.z), s2, fma(vec4f(x.w), s3, out[i]))));
                    if (NORMALIZE) {
                        den[i] += dot(x, keys_sum[slab / 4u + c]);
                    }
                }
            }
        }
    }
    if (DECAY == DECAY_SCALAR && first < CHUNK) {
        for (var i = 0u; i < O_ROWS; i++) {
            let win = exp(log_win(first + i));
            out[i] *= win;
            den[i] *= win;
        }
    }
    if (scored) {
        write_scores(lid);
    }
}

// Adds the chunk's own terms to the outputs, and its tokens to what the state gains.
fn combine(here: Place, chunk: Chunk, reads: bool, adds: bool, lid: u32) {
    let tx = lid % TX;
    let first = lid / TX * O_ROWS;
    for (var n = 0u; n < CHUNK / TOKEN_SLAB; n++) {
        workgroupBarrier();
        if (adds) {
            stage_keys(here, chunk, n, lid);
        }
        stage_values(here, chunk, n, lid);
        if (DELTA) {
            stage_missed(n, lid);
        }
        workgroupBarrier();
        if (reads && first < CHUNK && n * TOKEN_SLAB < first + O_ROWS) {
            for (var j = 0u; j < TOKEN_SLAB; j++) {
                let vj = arena[ARENA_VALUES + j * TX + tx];
                for (var i = 0u; i < O_ROWS; i++) {
                    let score = scores[(first + i) * CHUNK + n * TOKEN_SLAB + j];
                    if (DECAY == DECAY_COLUMNS) {
                        let f = select(vec4f(1.0), arena[ARENA_FADING + j * TX + tx], n * TOKEN_SLAB + j <= first + i);
                        out[i] = fma(vec4f(score), vj, f * out[i]);
                    } else {
                        out[i] = fma(vec4f(score), vj, out[i]);
                    }
                    if (NORMALIZE) {
                        den[i] += score;
                    }
                }
            }
        }
        if (adds) {
            add_slab(lid);
        }
    }
}

// What the state misses of the chunk's values, and then what is added of it.
fn miss(here: Place, chunk: Chunk, lid: u32) {
    let tx = lid % TX;
    let first = lid / TX * O_ROWS;
    let column = here.column + 4u * tx;
    read_state(here, chunk, here.keys, true, false, lid);
    for (var i = 0u; i < O_ROWS; i++) {
        let r = first + i;
        missed[i] = source_column(row_at(here.values, chunk, r), column, r < chunk.length && column < p.value) - out[i];
        out[i] = vec4f();
    }
    let solved_rows = rows_of(here.span.batch, here.span.head, p.state_heads);
    for (var e = lid; e < CHUNK * CHUNK; e += 256u) {
        let r = e / CHUNK;
        scores[e] = select(0.0, solution(row_at(solved_rows, chunk, r) * CHUNK + e % CHUNK), r < chunk.length);
    }
    for (var n = 0u; n < CHUNK / TOKEN_SLAB; n++) {
        workgroupBarrier();
        stage_missed(n, lid);
        workgroupBarrier();
        if (first < CHUNK) {
            for (var j = 0u; j < TOKEN_SLAB; j++) {
                let vj = arena[ARENA_VALUES + j * TX + tx];
                for (var i = 0u; i < O_ROWS; i++) {
                    let c = n * TOKEN_SLAB + j;
                    let weight = select(scores[(first + i) * CHUNK + c], 1.0, c == first + i);
                    out[i] = fma(vec4f(weight), vj, out[i]);
                }
            }
        }
    }
    for (var i = 0u; i < O_ROWS; i++) {
        let r = first + i;
        if (OUT_MISSED && r < chunk.length && column < p.value) {
            put_o(row_at(rows_of(here.span.batch, here.span.head, p.state_heads), chunk, r), column, out[i]);
        }
        missed[i] = scores[min(r, CHUNK - 1u) * (CHUNK + 1u)] * out[i];
    }
}

// TOKEN_SLAB tokens of `missed`, from the invocations that own them.
fn stage_missed(n: u32, lid: u32) {
    for (var i = 0u; i < O_ROWS; i++) {
        let r = lid / TX * O_ROWS + i;
        if (r >= n * TOKEN_SLAB && r < (n + 1u) * TOKEN_SLAB) {
            arena[ARENA_VALUES + (r - n * TOKEN_SLAB) * TX + lid % TX] = missed[i];
        }
    }
}

fn write_outputs(here: Place, chunk: Chunk, reader: u32, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let rows = rows_of(here.span.batch, here.span.head * GROUP + reader, p.state_heads * GROUP);
    for (var i = 0u; i < O_ROWS; i++) {
        let r = lid / TX * O_ROWS + i;
        if (r < chunk.length && column < p.value) {
            put_o(row_at(rows, chunk, r), column, quotient(out[i], den[i]));
        }
    }
}
