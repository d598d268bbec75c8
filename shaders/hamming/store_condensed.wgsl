// Distances of i to j > i of one set, row after row: out[out_offset + i*N - i(i+1)/2 + j - i - 1].
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len) {
        // Wraps like the offset, which takes the start of the bound range off.
        let row = p.out_offset + i * p.b_len - ((i + 1u) >> 1u) * (i | 1u) - i - 1u;
        for (var n = 0u; n < 4u; n++) {
            if (j + n < p.b_len && j + n > i) {
                out[row + j + n] = d[n];
            }
        }
    }
}
