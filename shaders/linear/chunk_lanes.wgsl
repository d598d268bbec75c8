// The products of `chunk` by invocations of their own, with operands in workgroup memory: an arena for each phase, and the scores.
var<workgroup> arena: array<vec4f, ARENA>;
var<workgroup> scores: array<f32, CHUNK * CHUNK>;

// The arena of the update: TOKEN_SLAB tokens of a, of u and, where columns fade, of their factors.
const ARENA_KEYS: u32 = 0u;
const ARENA_VALUES: u32 = TOKEN_SLAB * KEY_VECS;
const ARENA_FADING: u32 = ARENA_VALUES + TOKEN_SLAB * TX;

var<private> missed: array<vec4f, O_ROWS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn stage_keys(here: Place, chunk: Chunk, n: u32, lid: u32) {
    for (var e = lid; e < TOKEN_SLAB * KEY_VECS; e += 256u) {
        let i = n * TOKEN_SLAB + e / KEY_VECS;
        let row = 4u * (e % KEY_VECS);
        arena[ARENA_KEYS + e] = tail(here, chunk, i, row) * source_row(row_at(here.keys, chunk, i), row, i < chunk.length && row < p.key);
    }
}

fn stage_values(here: Place, chunk: Chunk, n: u32, lid: u32) {
    for (var e = lid; e < TOKEN_SLAB * TX; e += 256u) {
        let i = n * TOKEN_SLAB + e / TX;
        let column = here.column + 4u * (e % TX);
        if (!DELTA) {
            arena[ARENA_VALUES + e] = source_column(row_at(here.values, chunk, i), column, i < chunk.length && column < p.value);
        }
        if (DECAY == DECAY_COLUMNS) {
            arena[ARENA_FADING + e] = exp(channels_at(here, chunk, i, column, p.value));
        }
    }
}

fn add_slab(lid: u32) {
    let tx = lid % TX;
    let first = lid / TX * S_ROWS;
    for (var j = 0u; j < TOKEN_SLAB; j++) {
        let vj = arena[ARENA_VALUES + j * TX + tx];
        let at = j * KEY_PAD + first;
        if (DECAY == DECAY_COLUMNS) {
            let f = arena[ARENA_FADING + j * TX + tx];
            for (var i = 0u; i < S_ROWS; i++) {
                added[i] *= f;
            }
        }
        if (S_ROWS % 4u == 0u) {
            for (var i = 0u; i < S_ROWS / 4u; i++) {
                let kj = arena[ARENA_KEYS + at / 4u + i];
                added[4u * i] = fma(vec4f(kj.x), vj, added[4u * i]);
                added[4u * i + 1u] = fma(vec4f(kj.y), vj, added[4u * i + 1u]);
                added[4u * i + 2u] = fma(vec4f(kj.z), vj, added[4u * i + 2u]);
                added[4u * i + 3u] = fma(vec4f(kj.w), vj, added[4u * i + 3u]);
            }
        } else {
            for (var i = 0u; i < S_ROWS; i++) {
                added[i] = fma(vec4f(arena[ARENA_KEYS + (at + i) / 4u][(at + i) % 4u]), vj, added[i]);
            }
        }
        if (NORMALIZE && lid < KEY_VECS) {
            keys_added += arena[ARENA_KEYS + j * KEY_VECS + lid];
        }
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
                    out[i] = add_row(out[i], x, s0, s1, s2, s3);
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
