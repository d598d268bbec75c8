// What each token takes from the others, with h_i.h_j = bits - 2 popcount(code_i xor code_j) and c the offset:
//
//   n_i = sum_j (h_i.h_j + c) x_j, or where OWN sum_j (h_i.h_j) x_j + c x_i
//   o_i = n_i / (sum_j (h_i.h_j) + c count) where DIVIDE, else n_i
//
// over all j; where CAUSAL over j <= i, or where REVERSE over j >= i: from the state of all tokens, or that of other parts with the tokens of its own one by one. The sum of h_i.h_j is an integer,
// and the whole denominator is one where WHOLE_OFFSET.
//
// 3 state: array<vec4f>, as signed_state writes it
@group(0) @binding(3) var<storage, read> state: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        attend(item);
    }
}

// A lane owns a vector of ROWS tokens of one part.
fn attend(item: u32) {
    let q = item % p.quads;
    let sets = (p.tokens + ROWS - 1u) / ROWS;
    let first = item / p.quads % sets * ROWS;
    let head = item / (p.quads * sets);
    let part = select(0u, first / p.span, CAUSAL);
    let from_state = state_at(head, part);
    let total = from_state + p.bits * columns();
    var sum: array<vec4f, ROWS>;
    // Sums of h_i.h_j, and how many there are.
    var scores: array<i32, ROWS>;
    var count: array<i32, ROWS>;
    for (var n = 0u; n < ROWS; n++) {
        sum[n] = select(p.offset * state[total + q], vec4f(), OWN);
        scores[n] = 0;
        count[n] = i32(state[total + p.quads].x);
    }
    for (var w = 0u; w < p.words; w++) {
        var signs: array<u32, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            signs[n] = code(head, min(first + n, p.tokens - 1u), w);
        }
        for (var r = 32u * w; r < min(32u * w + 32u, p.bits); r++) {
            let at = from_state + r * columns();
            let x = state[at + q];
            let z = i32(state[at + p.quads].x);
            for (var n = 0u; n < ROWS; n++) {
                let positive = ((signs[n] >> (r % 32u)) & 1u) == 1u;
                sum[n] += select(-x, x, positive);
                scores[n] += select(-z, z, positive);
            }
        }
    }
    if (CAUSAL) {
        let begin = select(part * p.span, first, REVERSE);
        let end = min(select(first + ROWS, (part + 1u) * p.span, REVERSE), p.tokens);
        for (var j = begin; j < end; j++) {
            let x = source(head, j, q);
            var distance: array<u32, ROWS>;
            for (var n = 0u; n < ROWS; n++) {
                distance[n] = 0u;
            }
            for (var w = 0u; w < p.words; w++) {
                let other = code(head, j, w);
                for (var n = 0u; n < ROWS; n++) {
                    distance[n] += countOneBits(code(head, min(first + n, p.tokens - 1u), w) ^ other);
                }
            }
            for (var n = 0u; n < ROWS; n++) {
                let i = first + n;
                let seen = select(j <= i, j >= i, REVERSE);
                let score = i32(p.bits) - 2 * i32(distance[n]);
                let weight = f32(score) + select(p.offset, 0.0, OWN);
                sum[n] += select(vec4f(), weight * x, seen);
                scores[n] += select(0, score, seen);
                count[n] += select(0, 1, seen);
            }
        }
    }
    for (var n = 0u; n < ROWS && first + n < p.tokens; n++) {
        var x = sum[n];
        if (OWN) {
            x += p.offset * source(head, first + n, q);
        }
        var den = 1.0;
        if (DIVIDE) {
            den = f32(scores[n]) + p.offset * f32(count[n]);
            if (WHOLE_OFFSET) {
                den = f32(scores[n] + i32(p.whole) * count[n]);
            }
            x /= den;
        }
        put(head, first + n, q, x, den);
    }
}
