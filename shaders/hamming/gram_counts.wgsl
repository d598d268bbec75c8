// What a function of sets is stored of: |a_i|, |b_j| and n_ij = |a_i and b_j|, as f32 words, out[out_offset + i*out_stride + j].
//
// 3 a_counts: array<u32>, a_counts[a_counts_offset + i]      4 b_counts: array<u32>, b_counts[b_counts_offset + j]
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read> a_counts: array<u32>;
@group(0) @binding(4) var<storage, read> b_counts: array<u32>;

fn emit(i: u32, j: u32, both: vec4u) {
    if (i < p.a_len) {
        let s = a_counts[p.a_counts_offset + i];
        for (var n = 0u; n < 4u; n++) {
            if (j + n < p.b_len) {
                let value = gram(s, b_counts[p.b_counts_offset + j + n], both[n]);
                out[p.out_offset + i * p.out_stride + j + n] = bitcast<u32>(value);
            }
        }
    }
}
