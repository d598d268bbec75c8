// What every kernel that walks tokens has: parameters, keys, values and states.
//
// 1 k: array<Cell>, k[k_offset + index(head, t, K) + k]          2 v: array<Cell>, v[v_offset + index(head, t, V) + v]
// 4 state: array<StateCell>, state[state_offset + ((head*segments + segment)*K + k)*V + v], left at the end of the segment
// with head counted over batch*heads from first_head on, and
// index(head, t, W) = ((head/H)*batch_stride + (head%H)*head_stride + t*token_stride) * W.
// Offsets wrap: they take the start of the bound window off an index counted from the start of the whole tensor.
struct Params {
    tokens: u32,
    heads: u32,
    first_head: u32,
    key: u32,
    value: u32,
    segments: u32,
    segment_tokens: u32,
    slices: u32,
    groups: u32,
    batch_stride: u32,
    head_stride: u32,
    token_stride: u32,
    q_offset: u32,
    k_offset: u32,
    v_offset: u32,
    o_offset: u32,
    state_offset: u32,
    start_offset: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> k: array<Cell>;
@group(0) @binding(2) var<storage, read> v: array<Cell>;
@group(0) @binding(4) var<storage, read_write> state: array<StateCell>;

fn put_state(at: u32, left: u32, x: vec4f) {
    state[(p.state_offset + at) >> PART_SHIFT] = state_part(x, 0u);
    if (!WHOLE) {
        for (var i = 1u; i < min(PARTS, left); i++) {
            state[(p.state_offset + at + i) >> PART_SHIFT] = state_part(x, i);
        }
    }
}
