// What every kernel that walks tokens has: parameters, where tensors' rows lie, states.
//
// A walker is one sequence and one state head; readers x take S^T x from its state S [key, value], sources a, b add a b^T.
// Tensors are [batch, tokens, heads, width], or head-first; each has heads of its own. A tensor with fewer heads than states
// lends a head to several, one with more hands several to each.
//
// 4 state: array<StateCell>, element state_offset + (state_at * key + row) * value + column
// Offsets wrap: they take the start of the bound window off an index counted from the start of the whole tensor.
struct Params {
    // The window of tokens, and the length of the whole axis.
    first_token: u32,
    tokens: u32,
    total: u32,
    head_first: u32,
    state_heads: u32,
    q_heads: u32,
    k_heads: u32,
    v_heads: u32,
    g_heads: u32,
    first_walker: u32,
    key: u32,
    value: u32,
    segments: u32,
    segment_tokens: u32,
    // States that a walker keeps.
    slots: u32,
    slices: u32,
    groups: u32,
    q_offset: u32,
    k_offset: u32,
    v_offset: u32,
    o_offset: u32,
    g_offset: u32,
    beta_offset: u32,
    state_offset: u32,
    z_offset: u32,
    scale: f32,
    source_scale: f32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(4) var<storage, read_write> state: array<StateCell>;

fn put_state(at: u32, left: u32, x: vec4f) {
    state[(p.state_offset + at) >> PART_SHIFT] = state_part(x, 0u);
    if (!WHOLE) {
        for (var i = 1u; i < min(PARTS, left); i++) {
            state[(p.state_offset + at + i) >> PART_SHIFT] = state_part(x, i);
        }
    }
}

// The row of token 0 of a head, and the distance between its tokens.
struct Rows {
    first: u32,
    stride: u32,
}

fn rows_of(batch: u32, head: u32, heads: u32) -> Rows {
    let head_first = p.head_first == 1u;
    return Rows(
        select(batch * p.total * heads + head, (batch * heads + head) * p.total, head_first),
        select(heads, 1u, head_first),
    );
}

// The (first) head of a tensor with `heads` heads that belongs to a state head.
fn head_of(state_head: u32, heads: u32) -> u32 {
    return shared_head(state_head, p.state_heads, heads);
}

// The head that goes with head n of `heads` in a tensor with `others`, where one number divides the other. n * others may
// exceed u32.
fn shared_head(n: u32, heads: u32, others: u32) -> u32 {
    if (others < heads) {
        return n / (heads / others);
    }
    return n * (others / heads);
}

// What a workgroup walks: tokens begin to end of a sequence that ends at `last`; `first` is where the sequence's states begin
// to be counted, every CHUNK_TOKENS tokens.
struct Span {
    batch: u32,
    head: u32,
    begin: u32,
    end: u32,
    first: u32,
    last: u32,
    state_at: u32,
}

// Tokens between kept states.
const CHUNK_TOKENS: u32 = 64u;

// The token whose decay acts before virtual token i, and whether there is one: walking back, it is the token after.
fn fading_token(t: u32, last: u32) -> u32 {
    return select(t, min(t + 1u, last - 1u), REVERSE);
}

fn fades(t: u32, last: u32) -> bool {
    return !REVERSE || t + 1u < last;
}

fn quotient(y: vec4f, den: f32) -> vec4f {
    if (!NORMALIZE) {
        return p.scale * y;
    }
    let d = p.scale * den + p.eps;
    return select(p.scale * y / d, vec4f(), d == 0.0);
}

// Keys and readers through the elementwise feature map, nothing past the row's end; `left` entries of the row count.
fn key_feature(x: vec4f, left: u32) -> vec4f {
    if (WHOLE) {
        return feature(x);
    }
    return select(vec4f(), feature(x), vec4u(0u, 1u, 2u, 3u) < vec4u(left));
}
