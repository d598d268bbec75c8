// Scores of a chunk of 16 tokens where each row or column of the state fades by itself: one invocation a pair.
//
//   scores_rj = sum_c M_rj,c x_rc a_jc        j <= r, or j < r where STRICT;  M_rj = exp(g_{j+1} + .. + g_r) where rows fade
//
// M is the product of what acts from r's quad of tokens, from the quads between, and to the end of j's quad; inside a quad,
// of at most 3 factors. The arena holds 16 channels: x as the state takes it (times the decay since the chunk began) and as
// the scores do (since the quad began, and plain); a plain and to the quad's end; factors of tokens and of quads.
const CHANNEL_VECS: u32 = 4u;
const EACH: u32 = CHUNK * CHANNEL_VECS;
const ARENA_X: u32 = 0u;
const ARENA_A: u32 = EACH;
const ARENA_PLAIN: u32 = 2u * EACH;
const ARENA_FROM_FIRST: u32 = 3u * EACH;
const ARENA_TO_LAST: u32 = 4u * EACH;
const ARENA_FACTOR: u32 = 5u * EACH;
const ARENA_QUAD: u32 = 6u * EACH;
const ARENA_STATE: u32 = 6u * EACH + EACH / 4u;

var<private> product: f32;

fn clear_scores() {
    product = 0.0;
}

fn stage_rows(here: Place, chunk: Chunk, readers: Rows, slab: u32, keys: bool, scored: bool, lid: u32) {
    if (lid < EACH) {
        let i = lid / CHANNEL_VECS;
        let c = lid % CHANNEL_VECS;
        let channel = slab + 4u * c;
        let live = i < chunk.length && channel < p.key;
        var a = vec4f();
        if (keys || scored) {
            a = source_row(row_at(here.keys, chunk, i), channel, live);
        }
        var x = a;
        if (!keys) {
            x = reader_row(row_at(readers, chunk, i), channel, live);
        }
        let at = c * CHUNK + i;
        arena[ARENA_PLAIN + at] = x;
        arena[ARENA_A + at] = a;
        if (DECAY == DECAY_ROWS) {
            let quad = i / 4u * 4u;
            var since = vec4f();
            var before = vec4f();
            var after = vec4f();
            var own = vec4f();
            for (var n = 0u; n < quad + 4u; n++) {
                let g = channels_at(here, chunk, n, channel, p.key);
                since += select(vec4f(), g, n <= i);
                before += select(vec4f(), g, n >= quad && n <= i);
                after += select(vec4f(), g, n > i);
                own = select(own, g, n == i);
            }
            arena[ARENA_X + at] = exp(since) * x;
            arena[ARENA_FROM_FIRST + at] = exp(before) * x;
            arena[ARENA_TO_LAST + at] = exp(after) * a;
            arena[ARENA_FACTOR + at] = exp(own);
            if (i % 4u == 3u) {
                arena[ARENA_QUAD + c * (CHUNK / 4u) + i / 4u] = exp(before);
            }
        } else {
            arena[ARENA_X + at] = x;
        }
    }
}

fn add_scores(lid: u32) {
    let r = lid / CHUNK;
    let j = lid % CHUNK;
    if (j <= r) {
        for (var c = 0u; c < CHANNEL_VECS; c++) {
            let at = c * CHUNK;
            if (DECAY != DECAY_ROWS) {
                product += dot(arena[ARENA_X + at + r], arena[ARENA_A + at + j]);
            } else if (j / 4u < r / 4u) {
                var x = arena[ARENA_FROM_FIRST + at + r];
                for (var n = j / 4u + 1u; n < r / 4u; n++) {
                    x *= arena[ARENA_QUAD + c * (CHUNK / 4u) + n];
                }
                product += dot(x, arena[ARENA_TO_LAST + at + j]);
            } else {
                var x = arena[ARENA_PLAIN + at + r];
                for (var n = j + 1u; n <= r; n++) {
                    x *= arena[ARENA_FACTOR + at + n];
                }
                product += dot(x, arena[ARENA_A + at + j]);
            }
        }
    }
}

fn write_scores(lid: u32) {
    let r = lid / CHUNK;
    let j = lid % CHUNK;
    scores[lid] = select(0.0, product, j < r || (j == r && !STRICT));
}
