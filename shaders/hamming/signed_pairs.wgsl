// Gradients of the scores within parts: pair_ij = G_i . v_j - e_i for i and j of one part, where a tile holds any j <= i.
//
// 3 pairs: array<f32>, pairs[(head*T + i)*span + j - begin], begin the part's first token
// A lane owns 4 x 4 pairs.
@group(0) @binding(3) var<storage, read_write> pairs: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let side = p.span / 4u;
        let tiles = (p.tokens + 3u) / 4u;
        let column = item % side * 4u;
        let i = item / side % tiles * 4u;
        let begin = i / p.span * p.span;
        if (begin + column <= i) {
            multiply(item / (side * tiles), i, begin, column);
        }
    }
}

fn multiply(head: u32, i: u32, begin: u32, column: u32) {
    var sums: array<vec4f, 4>;
    for (var n = 0u; n < 4u; n++) {
        sums[n] = vec4f();
    }
    let last = p.tokens - 1u;
    for (var q = 0u; q < columns(); q++) {
        let sign = select(1.0, -1.0, q == p.quads);
        let a = value_of(head, min(begin + column, last), q) * sign;
        let b = value_of(head, min(begin + column + 1u, last), q) * sign;
        let c = value_of(head, min(begin + column + 2u, last), q) * sign;
        let d = value_of(head, min(begin + column + 3u, last), q) * sign;
        for (var n = 0u; n < 4u; n++) {
            let g = row_of(head, min(i + n, last), q);
            sums[n] += vec4f(dot(g, a), dot(g, b), dot(g, c), dot(g, d));
        }
    }
    for (var n = 0u; n < 4u && i + n < p.tokens; n++) {
        for (var m = 0u; m < 4u; m++) {
            pairs[(head * p.tokens + i + n) * p.span + column + m] = sums[n][m];
        }
    }
}
