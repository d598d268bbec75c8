// States at the start of every segment from what each segment adds, and the state after the last, segments in the order of
// the walk:
//
//   start_0 = the state before      start_{n+1} = exp(a_n) start_n + X_n      a_n the sum of the segment's log decays
//
// An invocation owns 4 columns of one row of one walker. Where states are kept, starts go to their slots; otherwise each takes
// the place of what its segment adds.
//
// 0 states: array<StateCell>, states[((walker*segments + segment)*rows + row)*columns + column]: X on entry, start on return
// 4 state: array<StateCell>, state[state_offset + ((walker*slots + slot)*rows + row)*columns + column]: before on entry, after
//   on return
struct Params {
    walkers: u32,
    rows: u32,
    columns: u32,
    segments: u32,
    // States of a walker, the slots before the first token and after the last, and those of a segment.
    slots: u32,
    first_slot: u32,
    last_slot: u32,
    segment_slots: u32,
    state_offset: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> states: array<StateCell>;
@group(0) @binding(4) var<storage, read_write> state: array<StateCell>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let vecs = (p.columns + 3u) / 4u;
    let index = group_index(group, grid) * 64u + lane;
    let walker = index / vecs / p.rows;
    let row = index / vecs % p.rows;
    let column = 4u * (index % vecs);
    if (walker < p.walkers) {
        let left = p.columns - column;
        let home = p.state_offset + row * p.columns + column;
        let size = p.rows * p.columns;
        var s = vec4f();
        if (RESUMES) {
            let from_at = home + slot_at(walker, select(0u, p.segments, REVERSE)) * size;
            let c = state_cells(from_at, left);
            s = gather_state(left, state[c.x], state[c.y], state[c.z], state[c.w]);
        }
        for (var n = 0u; n < p.segments; n++) {
            let segment = walker * p.segments + select(n, p.segments - 1u - n, REVERSE);
            let at = (segment * p.rows + row) * p.columns + column;
            let c = state_cells(at, left);
            let x = gather_state(left, states[c.x], states[c.y], states[c.z], states[c.w]);
            if (KEEP) {
                put(home + slot_at(walker, segment % p.segments + select(0u, 1u, REVERSE)) * size, left, s);
            } else {
                for (var i = 0u; i < min(PARTS, left); i++) {
                    states[(at + i) >> PART_SHIFT] = state_part(s, i);
                }
            }
            s = faded(fade(segment_total(segment, row, column, left)), s) + x;
        }
        put(home + slot_at(walker, select(p.segments, 0u, REVERSE)) * size, left, s);
    }
}

// The state before segment n, counted by tokens, or after the last.
fn slot_at(walker: u32, n: u32) -> u32 {
    return walker * p.slots + select(p.first_slot + n * p.segment_slots, p.last_slot, n == p.segments);
}

fn put(at: u32, left: u32, x: vec4f) {
    for (var i = 0u; i < min(PARTS, left); i++) {
        state[(at + i) >> PART_SHIFT] = state_part(x, i);
    }
}
