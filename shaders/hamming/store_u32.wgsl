// Words of pairs, out[out_offset + i*out_stride + j].
//
// Asks for: stored(i, j, d), what is stored of a row's pairs with four columns.
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len && j < p.b_len) {
        let words = stored(i, j, d);
        for (var n = 0u; n < 4u; n++) {
            if (j + n < p.b_len) {
                out[p.out_offset + i * p.out_stride + j + n] = words[n];
            }
        }
    }
}
