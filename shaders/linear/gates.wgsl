// A chunk of at most CHUNK tokens and its decay where one factor acts on the whole state. With g_i what acts before token i
// of the chunk, counted in the order of the walk, and L its length:
//
//   log_win(r) = g_0 + .. + g_r        log_between(j, r) = g_{j+1} + .. + g_r        log_tail(j) = g_{j+1} + .. + g_{L-1}
//
// Sums of what is <= 0 throughout, by quads of tokens; no difference of two sums, which would lose what both share.
struct Place {
    span: Span,
    keys: Rows,
    values: Rows,
    decays: Rows,
    decay_head: u32,
    slice: u32,
    // The first column of the workgroup.
    column: u32,
}

struct Chunk {
    first: u32,
    length: u32,
}

// Log decays of tokens, their sums from the quad's first token and to its last, and sums of quads.
const FROM_FIRST: u32 = CHUNK;
const TO_LAST: u32 = 2u * CHUNK;
const OF_QUAD: u32 = 3u * CHUNK;
const QUADS: u32 = CHUNK / 4u;
var<workgroup> gates: array<f32, GATES>;

var<private> gate: f32;
var<private> skipped: f32;
var<private> tokens: u32;

fn place(index: u32) -> Place {
    let span = span_of(index / p.slices);
    let slice = index % p.slices;
    let decay_head = head_of(span.head, p.g_heads);
    return Place(
        span,
        rows_of(span.batch, head_of(span.head, p.k_heads), p.k_heads),
        rows_of(span.batch, head_of(span.head, p.v_heads), p.v_heads),
        rows_of(span.batch, decay_head, p.g_heads),
        decay_head,
        slice,
        slice * VALUE_TILE,
    );
}

// Chunk n of those that a span is cut into, in the order of the walk.
fn chunk_of(span: Span, n: u32, chunks: u32) -> Chunk {
    let first = span.begin + select(n, chunks - 1u - n, REVERSE) * CHUNK;
    return Chunk(first, min(CHUNK, span.end - first));
}

// The i-th token of a chunk in the order of the walk; its last where it has no such token.
fn token_at(chunk: Chunk, i: u32) -> u32 {
    let n = min(i, chunk.length - 1u);
    return select(chunk.first + n, chunk.first + chunk.length - 1u - n, REVERSE);
}

fn row_at(rows: Rows, chunk: Chunk, i: u32) -> u32 {
    return rows.first + token_at(chunk, i) * rows.stride;
}

// The row of log decays that acts before token i, and whether one does.
fn decay_row_at(here: Place, chunk: Chunk, i: u32) -> u32 {
    return here.decays.first + fading_token(token_at(chunk, i), here.span.last) * here.decays.stride;
}

fn fades_at(here: Place, chunk: Chunk, i: u32) -> bool {
    return i < chunk.length && fades(token_at(chunk, i), here.span.last);
}

fn channels_at(here: Place, chunk: Chunk, i: u32, channel: u32, width: u32) -> vec4f {
    let live = channel < width && fades_at(here, chunk, i);
    return select(vec4f(), channel_log_decay(decay_row_at(here, chunk, i), select(0u, channel, live), width), live);
}

fn open_gates(here: Place, chunk: Chunk, lid: u32) {
    tokens = chunk.length;
    if (UNIFORM) {
        gate = token_log_decay(here.decay_head, 0u);
        skipped = select(1.0, 0.0, fades_at(here, chunk, 0u));
    } else if (DECAY == DECAY_SCALAR) {
        // The chunk before may still be read.
        workgroupBarrier();
        if (lid < CHUNK) {
            gates[lid] = select(0.0, token_log_decay(here.decay_head, decay_row_at(here, chunk, lid)), fades_at(here, chunk, lid));
        }
        workgroupBarrier();
        if (lid < CHUNK) {
            let quad = lid / 4u * 4u;
            var before = 0.0;
            var after = 0.0;
            for (var i = quad; i < quad + 4u; i++) {
                before += select(0.0, gates[i], i <= lid);
                after += select(0.0, gates[i], i > lid);
            }
            gates[FROM_FIRST + lid] = before;
            gates[TO_LAST + lid] = after;
            if (lid % 4u == 3u) {
                gates[OF_QUAD + lid / 4u] = before;
            }
        }
        workgroupBarrier();
    }
}

fn quads(first: u32, end: u32) -> f32 {
    var sum = 0.0;
    for (var n = first; n < end; n++) {
        sum += gates[OF_QUAD + n];
    }
    return sum;
}

fn log_win(r: u32) -> f32 {
    if (UNIFORM) {
        return gate * (f32(r + 1u) - skipped);
    }
    return gates[FROM_FIRST + r] + quads(0u, r / 4u);
}

// j <= r
fn log_between(j: u32, r: u32) -> f32 {
    if (UNIFORM) {
        return gate * f32(r - j);
    }
    if (j / 4u < r / 4u) {
        return gates[TO_LAST + j] + quads(j / 4u + 1u, r / 4u) + gates[FROM_FIRST + r];
    }
    var sum = 0.0;
    for (var i = j + 1u; i <= r; i++) {
        sum += gates[i];
    }
    return sum;
}

fn log_tail(j: u32) -> f32 {
    if (UNIFORM) {
        return gate * f32(tokens - min(j + 1u, tokens));
    }
    return gates[TO_LAST + j] + quads(j / 4u + 1u, QUADS);
}

fn log_all() -> f32 {
    if (UNIFORM) {
        return gate * (f32(tokens) - skipped);
    }
    return quads(0u, QUADS);
}
