// The state tile of a workgroup in registers, and its update by a chunk of CHUNK tokens (shared by `chunk`, `local_state`):
//
//   S <- exp(L g) S + sum_r exp((L - 1 - r) g) k_r v_r^T        r = 0 .. L-1, L the chunk's own length
//
// 256 invocations as TX columns (4 values each) by TY rows; an invocation owns S_ROWS consecutive rows of KEY_PAD.
// Every exponent is <= 0, those of padded rows included.
const TX: u32 = VALUE_TILE / 4u;
const TY: u32 = 256u / TX;
const S_ROWS: u32 = KEY_PAD / TY;

var<private> s: array<vec4f, S_ROWS>;
// What the chunk adds, summed by itself: S is rounded once a chunk and not once a token, which counts in long sums.
var<private> added: array<vec4f, S_ROWS>;

// What the workgroup works on; the same for all its invocations, so that loops over it are uniform. `column` is its first.
struct Place {
    row: u32,
    column: u32,
    begin: u32,
    end: u32,
    state_at: u32,
    log_decay: f32,
}

fn place(index: u32) -> Place {
    let slice = index % p.slices;
    let segment = (index / p.slices) % p.segments;
    let head = p.first_head + index / (p.slices * p.segments);
    let begin = segment * p.segment_tokens;
    return Place(
        (head / p.heads) * p.batch_stride + (head % p.heads) * p.head_stride,
        slice * VALUE_TILE,
        begin,
        min(begin + p.segment_tokens, p.tokens),
        (head * p.segments + segment) * p.key * p.value,
        log_decay_of(head % p.heads),
    );
}

fn load_k(row: u32, t: u32, end: u32, channel: u32) -> vec4f {
    let live = t < end && channel < p.key;
    let at = p.k_offset + select(row * p.key, (row + t * p.token_stride) * p.key + channel, live);
    let left = select(1u, p.key - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, k[c.x], k[c.y], k[c.z], k[c.w]), live);
}

fn load_v(row: u32, t: u32, end: u32, column: u32) -> vec4f {
    let live = t < end && column < p.value;
    let at = p.v_offset + select(row * p.value, (row + t * p.token_stride) * p.value + column, live);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}

fn write_state(here: Place, tx: u32, ty: u32) {
    let column = here.column + 4u * tx;
    for (var i = 0u; i < S_ROWS; i++) {
        let row = ty * S_ROWS + i;
        if (row < p.key && column < p.value) {
            put_state(here.state_at + row * p.value + column, p.value - column, s[i]);
        }
    }
}

// Slab n of TOKEN_SLAB tokens of a chunk starting at token `first`, staged behind ARENA_K and ARENA_V.
fn stage_slab(here: Place, first: u32, n: u32, lid: u32) {
    const KEY_VECS: u32 = KEY_PAD / 4u;
    let length = min(CHUNK, here.end - first);
    for (var e = lid; e < TOKEN_SLAB * KEY_VECS; e += 256u) {
        let r = n * TOKEN_SLAB + e / KEY_VECS;
        // Rows past the end have k = 0; their exponent is kept from turning positive.
        let rest = f32(length - min(r + 1u, length));
        arena[ARENA_K + e] = exp(here.log_decay * rest) * load_k(here.row, first + r, here.end, 4u * (e % KEY_VECS));
    }
    for (var e = lid; e < TOKEN_SLAB * TX; e += 256u) {
        arena[ARENA_V + e] = load_v(here.row, first + n * TOKEN_SLAB + e / TX, here.end, here.column + 4u * (e % TX));
    }
}

fn clear_added() {
    for (var i = 0u; i < S_ROWS; i++) {
        added[i] = vec4f();
    }
}

fn update_state(here: Place, first: u32) {
    let f = fade(here.log_decay * f32(min(CHUNK, here.end - first)));
    for (var i = 0u; i < S_ROWS; i++) {
        s[i] = faded(f, s[i]) + added[i];
    }
}

fn add_slab(tx: u32, ty: u32) {
    for (var j = 0u; j < TOKEN_SLAB; j++) {
        let vj = arena[ARENA_V + j * TX + tx];
        let at = j * KEY_PAD + ty * S_ROWS;
        if (S_ROWS % 4u == 0u) {
            for (var i = 0u; i < S_ROWS / 4u; i++) {
                let kj = arena[ARENA_K + at / 4u + i];
                added[4u * i] = fma(vec4f(kj.x), vj, added[4u * i]);
                added[4u * i + 1u] = fma(vec4f(kj.y), vj, added[4u * i + 1u]);
                added[4u * i + 2u] = fma(vec4f(kj.z), vj, added[4u * i + 2u]);
                added[4u * i + 3u] = fma(vec4f(kj.w), vj, added[4u * i + 3u]);
            }
        } else {
            for (var i = 0u; i < S_ROWS; i++) {
                added[i] = fma(vec4f(arena[ARENA_K + (at + i) / 4u][(at + i) % 4u]), vj, added[i]);
            }
        }
    }
}
