// Squared distances of normalised tokens to anchors: d_ts = max(0, |y|^2 + |a_s|^2 - 2 y.a_s), y = x_t / max(|x_t|, 1e-12);
// NaN where something is not finite.
//
// 2 distances: array<f32>, distances[(head*T + t)*m + s]
// A lane owns four tokens and four anchors.
@group(0) @binding(2) var<storage, read_write> distances: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let sets = (p.anchors + 3u) / 4u;
        let tiles = (p.tokens + 3u) / 4u;
        measure(item / (sets * tiles), item / sets % tiles * 4u, item % sets * 4u);
    }
}

fn measure(head: u32, first: u32, s: u32) {
    var products: array<vec4f, 4>;
    var norms = vec4f();
    var sizes = vec4f();
    for (var n = 0u; n < 4u; n++) {
        products[n] = vec4f();
    }
    let heads_set = set_of(head);
    let last = p.anchors - 1u;
    for (var q = 0u; 4u * q < p.channels; q++) {
        let a = anchor_of(heads_set, min(s, last), q);
        let b = anchor_of(heads_set, min(s + 1u, last), q);
        let c = anchor_of(heads_set, min(s + 2u, last), q);
        let d = anchor_of(heads_set, min(s + 3u, last), q);
        sizes += vec4f(dot(a, a), dot(b, b), dot(c, c), dot(d, d));
        for (var n = 0u; n < 4u; n++) {
            let y = channels_of(head, min(first + n, p.tokens - 1u), q);
            norms[n] += dot(y, y);
            products[n] += vec4f(dot(y, a), dot(y, b), dot(y, c), dot(y, d));
        }
    }
    for (var n = 0u; n < 4u && first + n < p.tokens; n++) {
        let norm = max(sqrt(norms[n]), SMALL);
        let unit = select(1.0, norms[n] / (norm * norm), norm == SMALL);
        var distance = max(vec4f(), vec4f(unit) + sizes - 2.0 * (products[n] / norm));
        // Comparisons lose what is not a number: it is found by its bits.
        let sum = bitcast<vec4u>(products[n] + vec4f(norms[n]) + sizes);
        let wild = (sum & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
        distance = select(distance, bitcast<vec4f>(sum | vec4u(0x7fc00000u)), wild);
        for (var k = 0u; k < 4u && s + k < p.anchors; k++) {
            distances[(head * p.tokens + first + n) * p.anchors + s + k] = distance[k];
        }
    }
}
