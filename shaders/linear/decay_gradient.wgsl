// Gradients of log decays. That of token t is the sum of all flows from sources before t to sinks at t or after, per channel:
//
//   F_first = exp(g_first) * rowsum(S * D)        flows across the start of a chunk, S the state there, D the gradient of the next
//   F_{t+1} = F_t - flow_t        dg_t = F_t        t from the chunk's first token to its last
//
// Starting afresh at every chunk keeps the sums from cancelling, and every term of theirs is such a gradient: the state after a
// token is no start, because what it just took from the token does not flow through any decay. With a decay per token or head
// the channels are summed, with one per head the tokens too (a partial sum per chunk). A workgroup owns one chunk of one state head.
//
// 0, 7: `flows_whole`, `flows_channels` or `flows_tokens`
// 1 s: array<vec4f>, state number base * H + head * slots + slot of [value, key], H heads of states, `spread` copies of each
// 2 d: array<vec4f>, likewise with the heads of queries        3 more: array<vec4f>, with the heads of states
// 4 log_decay: array<f32>        5 dg: `dg_each` or `dg_vectors`
// 6 table: array<u32>, 6 words a chunk: batch entry, first token, end, base, slots, slot of its start
struct Params {
    first_chunk: u32,
    tokens: u32,
    head_first: u32,
    heads: u32,
    first_head: u32,
    head_count: u32,
    group: u32,
    spread: u32,
    key: u32,
    key_vecs: u32,
    value: u32,
    // Elements of the tensors before what is bound of them.
    flow_offset: u32,
    s_offset: u32,
    d_offset: u32,
    more_offset: u32,
    decay_offset: u32,
    dg_offset: u32,
    slices: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> s: array<vec4f>;
@group(0) @binding(2) var<storage, read> d: array<vec4f>;
@group(0) @binding(4) var<storage, read> log_decay: array<f32>;
@group(0) @binding(6) var<storage, read> table: array<u32>;

var<workgroup> across: array<f32, 64>;
var<workgroup> tokens: array<f32, 64>;

struct Chunk {
    batch: u32,
    begin: u32,
    end: u32,
    base: u32,
    slots: u32,
    slot: u32,
}

fn row_of(batch: u32, head: u32, heads: u32, t: u32) -> u32 {
    return select((batch * p.tokens + t) * heads + head, (batch * heads + head) * p.tokens + t, p.head_first == 1u);
}

fn log_decay_at(here: Chunk, head: u32, c: u32) -> f32 {
    let row = row_of(here.batch, head, p.heads, here.begin);
    var at = head;
    if (PER == PER_TOKEN) {
        at = row;
    }
    if (PER == PER_CHANNEL) {
        at = row * p.key + min(c, p.key - 1u);
    }
    return max(log_decay[at - p.decay_offset], -200.0);
}

// Flows across the start of the chunk, for four channels.
fn crossing(here: Chunk, head: u32, c: u32) -> vec4f {
    let size = p.value * p.key_vecs;
    let s_at = (here.base * p.heads * p.spread + head * p.spread * here.slots + here.slot) * size + c - p.s_offset;
    let more_at = (here.base * p.heads + head * here.slots + here.slot) * size + c - p.more_offset;
    var sum = vec4f();
    for (var v = 0u; v < p.value; v++) {
        let from_at = s[s_at + v * p.key_vecs];
        var to_all = more_of(more_at + v * p.key_vecs);
        for (var n = 0u; n < p.group; n++) {
            let query_head = head * p.group + n;
            to_all += d[(here.base * p.heads * p.group + query_head * here.slots + here.slot) * size + v * p.key_vecs + c - p.d_offset];
        }
        sum = fma(from_at, to_all, sum);
    }
    let g = vec4f(log_decay_at(here, head, 4u * c), log_decay_at(here, head, 4u * c + 1u), log_decay_at(here, head, 4u * c + 2u), log_decay_at(here, head, 4u * c + 3u));
    return sum * exp(g);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let chunk = p.first_chunk + index / p.head_count;
        let head = p.first_head + index % p.head_count;
        let at = 6u * chunk;
        let here = Chunk(table[at], table[at + 1u], table[at + 2u], table[at + 3u], table[at + 4u], table[at + 5u]);
        if (PER == PER_CHANNEL) {
            for (var c = lane; c < p.key_vecs; c += 64u) {
                var sum = crossing(here, head, c);
                for (var t = here.begin; t < here.end; t++) {
                    let out = row_of(here.batch, head, p.heads, t) * p.key + 4u * c - p.dg_offset;
                    put_vector(out, min(4u, p.key - 4u * c), sum);
                    sum -= flow_of(here, head, t, c);
                }
            }
        } else {
            let t = here.begin + lane;
            var mine = 0.0;
            if (t < here.end) {
                mine = flow_over_channels(here, head, t);
            }
            var sum = 0.0;
            for (var c = lane; c < p.key_vecs; c += 64u) {
                sum += dot(crossing(here, head, c), vec4f(1.0));
            }
            across[lane] = sum;
            tokens[lane] = mine;
            workgroupBarrier();
            var total = 0.0;
            for (var n = 0u; n < 64u; n++) {
                total += across[n];
            }
            for (var n = 0u; n < lane; n++) {
                total -= tokens[n];
            }
            if (PER == PER_TOKEN) {
                if (t < here.end) {
                    put_number(row_of(here.batch, head, p.heads, t) - p.dg_offset, total);
                }
            } else {
                workgroupBarrier();
                tokens[lane] = select(0.0, total, t < here.end);
                workgroupBarrier();
                if (lane == 0u) {
                    var all = 0.0;
                    for (var n = 0u; n < 64u; n++) {
                        all += tokens[n];
                    }
                    put_number(chunk * p.heads + head, all);
                }
            }
        }
    }
}

const PER_HEAD: u32 = 0u;
const PER_TOKEN: u32 = 1u;
const PER_CHANNEL: u32 = 2u;
