// Outputs in f32.
// 4 o: array<StateCell>, o[o_offset + (head*T + t)*V + column]
@group(0) @binding(4) var<storage, read_write> o: array<StateCell>;

fn put(head: u32, t: u32, q: u32, x: vec4f, den: f32) {
    let at = p.o_offset + tensor_row(head, t) * p.value + 4u * q;
    o[at >> PART_SHIFT] = state_part(x, 0u);
    if (!WHOLE) {
        for (var n = 1u; n < min(PARTS, p.value - 4u * q); n++) {
            o[(at + n) >> PART_SHIFT] = state_part(x, n);
        }
    }
}
