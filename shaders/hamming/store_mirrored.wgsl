// Distances of a set to itself as words, each of a tile above the diagonal in both its places.
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len) {
        for (var n = 0u; n < 4u; n++) {
            if (j + n < p.b_len) {
                out[i * p.out_stride + j + n] = d[n];
                out[(j + n) * p.out_stride + i] = d[n];
            }
        }
    }
}
