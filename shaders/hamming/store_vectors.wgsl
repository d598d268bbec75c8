// Words of pairs where rows are whole vectors: out[(out_offset + i*out_stride + j) / 4].
//
// Asks for: stored(i, j, d), what is stored of a row's pairs with four columns.
@group(0) @binding(2) var<storage, read_write> out: array<vec4u>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len && j < p.b_len) {
        out[(p.out_offset + i * p.out_stride + j) / 4u] = stored(i, j, d);
    }
}
