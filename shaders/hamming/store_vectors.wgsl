// Distances as words where rows are whole vectors: out[(out_offset + i*out_stride + j) / 4].
@group(0) @binding(2) var<storage, read_write> out: array<vec4u>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len && j < p.b_len) {
        out[(p.out_offset + i * p.out_stride + j) / 4u] = d;
    }
}
