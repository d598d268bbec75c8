// What the tokens of a token's own part add to its gradient: sum_j (j <= i) pair_ij h_j + sum_j (j >= i) pair_ji h_j.
// 5 pairs: array<f32>, as signed_pairs writes it
@group(0) @binding(5) var<storage, read> pairs: array<f32>;

fn within(head: u32, first: u32, r: u32, sums: ptr<function, array<vec4f, 4>>) {
    let begin = first / p.span * p.span;
    let row = head * p.tokens;
    for (var j = begin; j < min(begin + p.span, p.tokens); j++) {
        let h = signs_of(head, j, r);
        for (var n = 0u; n < 4u; n++) {
            let i = min(first + n, p.tokens - 1u);
            let earlier = pairs[(row + i) * p.span + min(i, j) - begin];
            let later = pairs[(row + max(i, j)) * p.span + i - begin];
            (*sums)[n] += (select(0.0, earlier, j <= i) + select(0.0, later, j >= i)) * h;
        }
    }
}
