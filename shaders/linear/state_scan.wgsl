// States at the start of every segment from what each segment adds, and the state after the last:
//
//   start_0 = the initial state      start_{n+1} = exp(a_n) start_n + X_n      a_n = segment_tokens * g
//
// An invocation owns 4 columns of one row of one head.
//
// 0 states: array<StateCell>, states[states_offset + ((head*segments + segment)*K + k)*V + v]: X on entry, start on return
// 4 state: array<StateCell>, state[state_offset + (head*K + k)*V + v]: the final state
struct Params {
    heads: u32,
    first_head: u32,
    head_count: u32,
    key: u32,
    value: u32,
    segments: u32,
    segment_tokens: u32,
    last_tokens: u32,
    states_offset: u32,
    state_offset: u32,
    start_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> states: array<StateCell>;
@group(0) @binding(4) var<storage, read_write> state: array<StateCell>;

fn load_added(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.states_offset + at, left);
    return gather_state(left, states[c.x], states[c.y], states[c.z], states[c.w]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let columns = (p.value + 3u) / 4u;
    let index = group_index(group, grid) * 64u + lane;
    let row = index / columns;
    let column = 4u * (index % columns);
    if (row < p.head_count * p.key) {
        let head = p.first_head + row / p.key;
        let left = p.value - column;
        let home = (head * p.key + row % p.key) * p.value + column;
        let g = log_decay_of(head % p.heads);
        var s = start_state(home, left);
        for (var segment = 0u; segment < p.segments; segment++) {
            let at = ((head * p.segments + segment) * p.key + row % p.key) * p.value + column;
            let x = load_added(at, left);
            for (var i = 0u; i < min(PARTS, left); i++) {
                states[(p.states_offset + at + i) >> PART_SHIFT] = state_part(s, i);
            }
            let tokens = select(p.segment_tokens, p.last_tokens, segment + 1u == p.segments);
            s = faded(fade(g * f32(tokens)), s) + x;
        }
        for (var i = 0u; i < min(PARTS, left); i++) {
            state[(p.state_offset + home + i) >> PART_SHIFT] = state_part(s, i);
        }
    }
}
