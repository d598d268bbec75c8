// Distances of 16 bits, two to a word, rows of whole words: out[out_offset + i*out_stride + j/2]. What fills a row up is 0.
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

fn emit(i: u32, j: u32, d: vec4u) {
    if (i < p.a_len) {
        let there = select(vec4u(), d, vec4u(j) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.b_len));
        let at = p.out_offset + i * p.out_stride + j / 2u;
        if (j < p.b_len) {
            out[at] = there.x | (there.y << 16u);
        }
        if (j + 2u < p.b_len) {
            out[at + 1u] = there.z | (there.w << 16u);
        }
    }
}
