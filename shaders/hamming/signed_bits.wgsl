// Gradients of the signs, of a token as a query and as a key: with ds_ij = G_i . v_j - e_i,
//
//   dh_ir = sum_j ds_ij h_jr + sum_j ds_ji h_jr        over all j; where CAUSAL over j <= i, and over j >= i in the second sum
//         = G_i . S_r - e_i z_r + v_i . R_r - E_r      S, z sums of h_r v and h_r; R, E of h_r G and h_r e
//
// where CAUSAL from the states of other parts, and from pairs within its own.
//
// 3 state: array<vec4f>, S and z        4 rows_state: array<vec4f>, R and E
// 6 grad: array<f32>, grad[o_offset + (head*T + t)*bits + r]
// A lane owns four bits of four tokens.
@group(0) @binding(3) var<storage, read> state: array<vec4f>;
@group(0) @binding(4) var<storage, read> rows_state: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let sets = (p.bits + 3u) / 4u;
        let tiles = (p.tokens + 3u) / 4u;
        pull(item / (sets * tiles), item / sets % tiles * 4u, item % sets * 4u);
    }
}

fn signs_of(head: u32, t: u32, r: u32) -> vec4f {
    let bits = vec4u(code(head, t, r / 32u) >> (r % 32u)) >> vec4u(0u, 1u, 2u, 3u);
    return select(vec4f(-1.0), vec4f(1.0), (bits & vec4u(1u)) == vec4u(1u));
}

fn pull(head: u32, first: u32, r: u32) {
    let part = select(0u, first / p.span, CAUSAL);
    let at = state_at(head, part);
    let last = p.tokens - 1u;
    var sums: array<vec4f, 4>;
    for (var n = 0u; n < 4u; n++) {
        sums[n] = vec4f();
    }
    for (var q = 0u; q < columns(); q++) {
        let sign = select(1.0, -1.0, q == p.quads);
        var s: array<vec4f, 4>;
        var y: array<vec4f, 4>;
        for (var k = 0u; k < 4u; k++) {
            let row = at + min(r + k, p.bits - 1u) * columns() + q;
            s[k] = state[row] * sign;
            y[k] = rows_state[row] * sign;
        }
        for (var n = 0u; n < 4u; n++) {
            let g = row_of(head, min(first + n, last), q);
            let x = value_of(head, min(first + n, last), q);
            sums[n] += vec4f(dot(g, s[0]), dot(g, s[1]), dot(g, s[2]), dot(g, s[3]));
            sums[n] += vec4f(dot(x, y[0]), dot(x, y[1]), dot(x, y[2]), dot(x, y[3]));
        }
    }
    within(head, first, r, &sums);
    for (var n = 0u; n < 4u && first + n < p.tokens; n++) {
        for (var k = 0u; k < 4u && r + k < p.bits; k++) {
            grad[p.o_offset + tensor_row(head, first + n) * p.bits + r + k] = sums[n][k];
        }
    }
}
