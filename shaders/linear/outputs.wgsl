// What kernels that write outputs have beside `walk`.
//
// 0 q: array<Cell>, q[q_offset + index(head, t, K) + k]          3 o: array<OutCell>, o[o_offset + index(head, t, V) + v]
@group(0) @binding(0) var<storage, read> q: array<Cell>;
@group(0) @binding(3) var<storage, read_write> o: array<OutCell>;

// `row` is the row of token 0 in units of a token's width.
fn put_o(row: u32, t: u32, column: u32, x: vec4f) {
    let at = p.o_offset + (row + t * p.token_stride) * p.value + column;
    o[at >> PART_SHIFT] = out_part(x, 0u);
    if (!WHOLE) {
        for (var i = 1u; i < min(PARTS, p.value - column); i++) {
            o[(at + i) >> PART_SHIFT] = out_part(x, i);
        }
    }
}
