// Scores of a chunk where at most one factor acts on the whole state: the product first, then a weight on each.
//
//   scores_rj = exp(log_between(j, r)) x_r . a_j        j <= r, or j < r where STRICT
//
// An invocation owns A_ROWS rows by 4 columns, CHUNK/4 apart. The arena holds 16 channels of x and a: ARENA_X + c*CHUNK + r.
const CHANNEL_VECS: u32 = 4u;
const ARENA_X: u32 = 0u;
const ARENA_A: u32 = CHUNK * CHANNEL_VECS;
const ARENA_STATE: u32 = 2u * CHUNK * CHANNEL_VECS;
const AX: u32 = CHUNK / 4u;
const A_ROWS: u32 = CHUNK * AX / 256u;

var<private> products: array<vec4f, A_ROWS>;

fn clear_scores() {
    for (var i = 0u; i < A_ROWS; i++) {
        products[i] = vec4f();
    }
}

// Channels slab to slab+15 of x, which are sources where `keys`, and of a where `scored`.
fn stage_rows(here: Place, chunk: Chunk, readers: Rows, slab: u32, keys: bool, scored: bool, lid: u32) {
    for (var e = lid; e < CHUNK * CHANNEL_VECS; e += 256u) {
        let i = e / CHANNEL_VECS;
        let c = e % CHANNEL_VECS;
        let channel = slab + 4u * c;
        let live = i < chunk.length && channel < p.key;
        if (keys || scored) {
            let a = source_row(row_at(here.keys, chunk, i), channel, live);
            if (keys) {
                arena[ARENA_X + c * CHUNK + i] = a;
            }
            arena[ARENA_A + c * CHUNK + i] = a;
        }
        if (!keys) {
            arena[ARENA_X + c * CHUNK + i] = reader_row(row_at(readers, chunk, i), channel, live);
        }
    }
}

fn add_scores(lid: u32) {
    let ax = lid % AX;
    let first = lid / AX * A_ROWS;
    for (var c = 0u; c < CHANNEL_VECS; c++) {
        let at = ARENA_A + c * CHUNK + ax;
        let a0 = arena[at];
        let a1 = arena[at + AX];
        let a2 = arena[at + 2u * AX];
        let a3 = arena[at + 3u * AX];
        for (var i = 0u; i < A_ROWS; i++) {
            let x = arena[ARENA_X + c * CHUNK + first + i];
            products[i] += dots(x, a0, a1, a2, a3);
        }
    }
}

fn write_scores(lid: u32) {
    let ax = lid % AX;
    for (var i = 0u; i < A_ROWS; i++) {
        let r = lid / AX * A_ROWS + i;
        for (var n = 0u; n < 4u; n++) {
            let j = ax + n * AX;
            var weight = 1.0;
            if (DECAY == DECAY_SCALAR) {
                weight = exp(log_between(min(j, r), r));
            }
            scores[r * CHUNK + j] = select(0.0, weight * products[i][n], j < r || (j == r && !STRICT));
        }
    }
}
