// What each segment adds to the state: X = sum_r exp(g_{r+1} + .. ) k_r v_r^T over the segment's tokens, from a zero start.
// A workgroup owns VALUE_TILE columns of one (batch, head, segment); `state_scan` combines the segments.
//
// 0 k: array<Cell>, k[k_offset + index(head, t, K) + k], index as in `recurrent`      1 v: array<Cell>, likewise
// 4 state: array<StateCell>, state[state_offset + ((head*segments + segment)*K + k)*V + v] = X
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
    k_offset: u32,
    v_offset: u32,
    state_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> k: array<Cell>;
@group(0) @binding(1) var<storage, read> v: array<Cell>;
@group(0) @binding(4) var<storage, read_write> state: array<StateCell>;

const ARENA_K: u32 = 0u;
const ARENA_V: u32 = TOKEN_SLAB * KEY_PAD / 4u;
var<workgroup> arena: array<vec4f, TOKEN_SLAB * (KEY_PAD + VALUE_TILE) / 4u>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    let tx = lid % TX;
    let ty = lid / TX;
    for (var i = 0u; i < S_ROWS; i++) {
        s[i] = vec4f();
    }
    for (var first = here.begin; first < here.end; first += CHUNK) {
        clear_added();
        for (var n = 0u; n < CHUNK / TOKEN_SLAB; n++) {
            workgroupBarrier();
            stage_slab(here, first, n, lid);
            workgroupBarrier();
            add_slab(tx, ty);
        }
        update_state(here, first);
    }
    write_state(here, tx, ty);
}
