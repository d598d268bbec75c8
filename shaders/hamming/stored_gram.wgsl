// A function of sets, of |a_i|, |b_j| and n_ij = |a_i and b_j|, as f32 words.
//
// 3 a_counts: array<u32>, a_counts[a_counts_offset + i]      4 b_counts: array<u32>, b_counts[b_counts_offset + j]
@group(0) @binding(3) var<storage, read> a_counts: array<u32>;
@group(0) @binding(4) var<storage, read> b_counts: array<u32>;

fn stored(i: u32, j: u32, both: vec4u) -> vec4u {
    let at = vec4u(p.b_counts_offset) + min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(p.b_len - 1u));
    let t = vec4u(b_counts[at.x], b_counts[at.y], b_counts[at.z], b_counts[at.w]);
    return bitcast<vec4u>(gram(vec4u(a_counts[p.a_counts_offset + i]), t, both));
}
