// The states before each part from what each part adds, after each part where REVERSE; or with TOTAL their sum, in the place of
// the first. In place, in order.
//
// 3 state: array<vec4f>, as signed_state writes it
@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let size = (p.bits + 1u) * columns();
        let first = state_at(item / size, 0u) + item % size;
        var sum = vec4f();
        for (var n = 0u; n < p.parts; n++) {
            let at = first + select(n, p.parts - 1u - n, REVERSE) * size;
            let x = state[at];
            if (!TOTAL) {
                state[at] = sum;
            }
            sum += x;
        }
        if (TOTAL) {
            state[first] = sum;
        }
    }
}
