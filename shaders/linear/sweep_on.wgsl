// The gradients of queries, what the delta rule's corrections add to those of keys, and those of log decays, in one walk over
// the states S, whose columns the gradients read. With S' before and S after a token's own k u^T,
//
//   dq = scale S dn        dk -= S' dv with the delta rule (`sweep_corrected`)
//
// and q ⊙ dq without the token's own k, less k ⊙ S' dv, is what flows into it (`sweep_dg_*`).
//
// 1 k: array<vec4f>, k[row * key_vecs + c]        8 dq: likewise
// 2 dn: array<vec4f>, dn[row * value_vecs + c]        3 u: likewise
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> dn: array<vec4f>;
@group(0) @binding(3) var<storage, read> u: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dq: array<vec4f>;

fn pass_block(b: Block, lane: u32) {
    var gates = gates_of(b, lane);
    var grads: OfTokens;
    var added: OfTokens;
    var taken: OfTokens;
    for (var i = 0u; i < HELD; i++) {
        for (var l = 0u; l < LANES; l++) {
            let row = token_row(b, i * LANES + l);
            for (var c = 0u; c < COLUMNS; c++) {
                let at = value_vector(row, lane, c);
                grads[i][l][c] = select(vec4f(), p.scale * dn[at], live(lane, c));
                added[i][l][c] = select(vec4f(), u[at], live(lane, c) && i * LANES + l < b.count);
                taken[i][l][c] = select(vec4f(), -correction(at), live(lane, c));
            }
        }
    }
    var near: Pairs;
    var far: Pairs;
    var own: Numbers;
    var unused: Numbers;
    products(lane, &gates, &added, &grads, &near, &own);
    if (CORRECTS) {
        products(lane, &gates, &added, &taken, &far, &unused);
    }
    for (var r = 0u; r < p.key / 4u; r++) {
        var keys: Held;
        for (var i = 0u; i < HELD; i++) {
            keys[i] = k[key_vector(token_row(b, held_token(lane, i)), r)];
        }
        let g = row_gates(b, lane, r, &gates);
        var s = rows_at(lane, b.from_at + 4u * r * p.value);
        cross(b, lane, r, &s, g);
        var sums = read_rows(lane, &s, &grads);
        var corrections: Held;
        if (CORRECTS) {
            corrections = read_rows(lane, &s, &taken);
        }
        if (DECAY == DECAY_SCALAR) {
            for (var i = 0u; i < HELD; i++) {
                sums[i] *= g.win[i];
                corrections[i] *= g.win[i];
            }
        }
        for (var j = 0u; j < HELD; j++) {
            for (var m = 0u; m < LANES; m++) {
                let source = subgroupShuffle(keys[j], m);
                var f = vec4f(1.0);
                if (DECAY == DECAY_ROWS) {
                    f = subgroupShuffle(g.factor[j], m);
                }
                for (var i = 0u; i < HELD; i++) {
                    if (i >= j) {
                        if (DECAY == DECAY_ROWS) {
                            let acts = select(vec4f(1.0), f, j * LANES + m <= held_token(lane, i));
                            sums[i] *= acts;
                            corrections[i] *= acts;
                        }
                        sums[i] = fma(vec4f(near[j][m][i]), source, sums[i]);
                        if (CORRECTS) {
                            corrections[i] = fma(vec4f(far[j][m][i]), source, corrections[i]);
                        }
                    }
                }
            }
        }
        arrive(b, lane, r, keys, sums, corrections);
        var sources: Held;
        for (var i = 0u; i < HELD; i++) {
            let n = held_token(lane, i);
            let at = key_vector(token_row(b, n), r);
            if (n < b.count) {
                dq[at] = fma(vec4f(own[i]), keys[i], sums[i]);
                correct(at, corrections[i]);
            }
            sources[i] = keys[i] * g.tail[i];
        }
        var change: StateRows;
        for (var n = 0u; n < 4u; n++) {
            for (var c = 0u; c < COLUMNS; c++) {
                change[n][c] = vec4f();
            }
        }
        add_rows(sources, &added, &change);
        fade_rows(lane, g.block, &s, &change);
        put_rows(lane, b.to_at + 4u * r * p.value, &s);
    }
    put_decay_gradient(b, lane, &gates);
}
