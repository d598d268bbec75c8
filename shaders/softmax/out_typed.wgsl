// Outputs in the storage type.
// 3 o: array<OutCell>, o[o_offset + index(head, t, V) + v]
@group(0) @binding(3) var<storage, read_write> o: array<OutCell>;

fn load_o(here: Place, t: u32, column: u32) -> vec4f {
    let live = column < p.value;
    let at = p.o_offset + element(here, t, column, p.value);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, o[c.x], o[c.y], o[c.z], o[c.w]), live);
}

fn put_o(here: Place, t: u32, column: u32, x: vec4f) {
    if (t < p.tokens && column < p.value) {
        let at = p.o_offset + element(here, t, column, p.value);
        o[at >> PART_SHIFT] = out_part(x, 0u);
        if (!WHOLE) {
            for (var i = 1u; i < min(PARTS, p.value - column); i++) {
                o[(at + i) >> PART_SHIFT] = out_part(x, i);
            }
        }
    }
}
