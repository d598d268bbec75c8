// What each segment adds to the state: X = sum_r exp(g_{r+1} + .. ) k_r v_r^T over the segment's tokens, from a zero start.
// A workgroup owns VALUE_TILE columns of one (batch, head, segment); `state_scan` combines the segments.
// Parameters and bindings: `walk`.

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
