// Codes of tokens by their distances to anchors: u_r = sum_s weight_rs (exp(-d_s / (2 sigma)) - mean_s). A bit is 1 where
// u_r > 0, compared as an integer, so that NaN gives 0 and the smallest numbers count.
//
// 2 distances: array<f32>, distances[(head*T + t)*m + s]        3 mean: array<f32>, mean[set*m + s]
// 4 weight: array<f32>, weight[(set*bits + r)*m + s]
// A lane owns one word of one token, VECTORS vectors of bits.
@group(0) @binding(2) var<storage, read> distances: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        project(item / p.words, item % p.words);
    }
}

fn project(row: u32, word: u32) {
    let head = row / p.tokens;
    let heads_set = set_of(head);
    let scale = -0.5 / sigma_of(head);
    let last = p.bits - 1u;
    var sums: array<vec4f, VECTORS>;
    for (var k = 0u; k < VECTORS; k++) {
        sums[k] = vec4f();
    }
    for (var s = 0u; s < p.anchors; s++) {
        let change = exp(distances[row * p.anchors + s] * scale) - mean[heads_set * p.anchors + s];
        for (var k = 0u; k < VECTORS; k++) {
            let r = min(vec4u(32u * word + 4u * k) + vec4u(0u, 1u, 2u, 3u), vec4u(last));
            let at = (vec4u(heads_set * p.bits) + r) * p.anchors + s;
            sums[k] = fma(vec4f(weight[at.x], weight[at.y], weight[at.z], weight[at.w]), vec4f(change), sums[k]);
        }
    }
    var code = 0u;
    for (var k = 0u; k < VECTORS; k++) {
        let r = vec4u(32u * word + 4u * k) + vec4u(0u, 1u, 2u, 3u);
        let above = bitcast<vec4u>(sums[k]) - vec4u(1u) < vec4u(0x7f800000u);
        let set_bits = select(vec4u(), vec4u(1u, 2u, 4u, 8u), above & (r < vec4u(p.bits)));
        code |= (set_bits.x | set_bits.y | set_bits.z | set_bits.w) << (4u * k);
        for (var n = 0u; n < 4u && r.x + n < p.bits; n++) {
            put_projection((p.first_head * p.tokens + row) * p.bits + r.x + n, sums[k][n]);
        }
    }
    put_word((p.first_head * p.tokens + row) * p.words + word, code);
}
