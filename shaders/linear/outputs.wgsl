// Where results go.
//
// 3 o: array<OutCell>
@group(0) @binding(3) var<storage, read_write> o: array<OutCell>;

fn put_o(row: u32, column: u32, x: vec4f) {
    let at = p.o_offset + row * p.value + column;
    o[at >> PART_SHIFT] = out_part(x, 0u);
    if (!WHOLE) {
        for (var i = 1u; i < min(PARTS, p.value - column); i++) {
            o[(at + i) >> PART_SHIFT] = out_part(x, i);
        }
    }
}
