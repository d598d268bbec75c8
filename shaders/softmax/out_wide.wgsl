// Outputs in f32, to be narrowed by steps of their own: they accumulate in memory, or are written a half word at a time.
// 3 o: array<StateCell>, o[o_offset + index(head, t, V) + v]
@group(0) @binding(3) var<storage, read_write> o: array<StateCell>;

fn load_o(here: Place, t: u32, column: u32) -> vec4f {
    let live = column < p.value;
    let at = p.o_offset + element(here, t, column, p.value);
    let left = select(1u, p.value - column, live);
    let c = state_cells(at, left);
    return select(vec4f(), gather_state(left, o[c.x], o[c.y], o[c.z], o[c.w]), live);
}

fn put_o(here: Place, t: u32, column: u32, x: vec4f) {
    if (t < p.tokens && column < p.value) {
        let at = p.o_offset + element(here, t, column, p.value);
        o[at >> PART_SHIFT] = state_part(x, 0u);
        if (!WHOLE) {
            for (var i = 1u; i < min(PARTS, p.value - column); i++) {
                o[(at + i) >> PART_SHIFT] = state_part(x, i);
            }
        }
    }
}
