// The gradients of values and keys in one walk back over the states' gradient D, whose rows keys read and whose columns values
// do. With the factors of a walk from the last token to the first, and D after a token's own readout,
//
//   D += scale q dn^T        du = D^T k        dk = D u
//   D -= k dv^T, dv = beta du        with the delta rule, for earlier tokens        otherwise dv = du
//
// k ⊙ dk without the token's own q is what flows out of it (`sweep_left_*`).
//
// 0 q: array<vec4f>, q[row * key_vecs + c]        1 k, 9 dk: likewise
// 2 dn: array<vec4f>, dn[row * value_vecs + c]        3 u, 8 dv: likewise
@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> dn: array<vec4f>;
@group(0) @binding(3) var<storage, read> u: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dv: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dk: array<vec4f>;

struct Given {
    q: Held,
    k: Held,
}

fn given_rows(b: Block, lane: u32, r: u32) -> Given {
    var x: Given;
    for (var i = 0u; i < HELD; i++) {
        let at = key_vector(token_row(b, held_token(lane, i)), r);
        x.q[i] = q[at];
        x.k[i] = k[at];
    }
    return x;
}

// Scores of readers x in turn against the held sources a.
fn score(lane: u32, x: Held, a: Held, factor: Held, scores: ptr<function, Pairs>) {
    var weighed = a;
    for (var i = 0u; i < HELD; i++) {
        for (var l = 0u; l < LANES; l++) {
            let reader = subgroupShuffle(x[i], l);
            var f = vec4f(1.0);
            if (DECAY == DECAY_ROWS) {
                f = subgroupShuffle(factor[i], l);
            }
            for (var h = 0u; h < HELD; h++) {
                if (h <= i) {
                    if (DECAY == DECAY_ROWS) {
                        weighed[h] *= select(vec4f(1.0), f, i * LANES + l > held_token(lane, h));
                    }
                    (*scores)[i][l][h] += dot(reader, weighed[h]);
                }
            }
        }
    }
}

fn close(here: Span, lane: u32) {}

fn pass_block(b: Block, lane: u32) {
    var gates = gates_of(b, lane);
    var grads: OfTokens;
    var added: OfTokens;
    var out: OfTokens;
    var scores: Pairs;
    var corrections: Pairs;
    for (var i = 0u; i < HELD; i++) {
        for (var l = 0u; l < LANES; l++) {
            let row = token_row(b, i * LANES + l);
            for (var c = 0u; c < COLUMNS; c++) {
                let at = value_vector(row, lane, c);
                grads[i][l][c] = select(vec4f(), p.source_scale * dn[at], live(lane, c) && i * LANES + l < b.count);
                added[i][l][c] = select(vec4f(), u[at], live(lane, c));
                out[i][l][c] = vec4f();
            }
            for (var h = 0u; h < HELD; h++) {
                scores[i][l][h] = 0.0;
                corrections[i][l][h] = 0.0;
            }
        }
    }
    var near: Pairs;
    var own: Numbers;
    products(lane, &gates, &grads, &added, &near, &own);
    // What the delta rule takes off is known after the rows' first pass.
    var taken: OfTokens;
    var far: Pairs;
    for (var r = 0u; r < p.key / 4u; r++) {
        let x = given_rows(b, lane, r);
        let g = row_gates(b, lane, r, &gates);
        score(lane, x.k, x.q, g.factor, &scores);
        if (DELTA) {
            score(lane, x.k, x.k, g.factor, &corrections);
        }
        var s = rows_at(lane, b.from_at + 4u * r * p.value);
        for (var i = 0u; i < HELD; i++) {
            var reader = x.k[i];
            if (DECAY == DECAY_ROWS) {
                reader *= g.win[i];
            }
            for (var l = 0u; l < LANES; l++) {
                let row = subgroupShuffle(reader, l);
                for (var c = 0u; c < COLUMNS; c++) {
                    out[i][l][c] = fma(vec4f(row.x), s[0][c], fma(vec4f(row.y), s[1][c], fma(vec4f(row.z), s[2][c], fma(vec4f(row.w), s[3][c], out[i][l][c]))));
                }
            }
        }
        if (!DELTA) {
            finish_rows(b, lane, r, x, g, &s, &grads, &taken, &added, &near, &far, own);
        }
    }

    if (DECAY == DECAY_SCALAR) {
        var between: Numbers;
        for (var h = 0u; h < HELD; h++) {
            between[h] = 1.0;
        }
        for (var i = 0u; i < HELD; i++) {
            for (var l = 0u; l < LANES; l++) {
                for (var h = 0u; h < HELD; h++) {
                    between[h] *= select(1.0, gates.step[i][l], i * LANES + l > held_token(lane, h));
                    scores[i][l][h] *= between[h];
                    corrections[i][l][h] *= between[h];
                }
            }
        }
    }
    var since = 1.0;
    for (var i = 0u; i < HELD; i++) {
        let beta = held_beta(b, lane, i);
        for (var l = 0u; l < LANES; l++) {
            since *= gates.step[i][l];
            var sum: Columns;
            for (var c = 0u; c < COLUMNS; c++) {
                sum[c] = vec4f();
            }
            for (var j = 0u; j < HELD; j++) {
                for (var m = 0u; m < LANES; m++) {
                    if (j * LANES + m <= i * LANES + l) {
                        let score = subgroupShuffle(scores[i][l][j], m);
                        for (var c = 0u; c < COLUMNS; c++) {
                            sum[c] = fma(vec4f(score), grads[j][m][c], sum[c]);
                        }
                    }
                    if (DELTA && j * LANES + m < i * LANES + l) {
                        let score = subgroupShuffle(corrections[i][l][j], m);
                        for (var c = 0u; c < COLUMNS; c++) {
                            sum[c] = fma(vec4f(-score), taken[j][m][c], sum[c]);
                        }
                    }
                }
            }
            let row = token_row(b, i * LANES + l);
            let weight = subgroupShuffle(beta, l);
            for (var c = 0u; c < COLUMNS; c++) {
                out[i][l][c] = fma(vec4f(since), out[i][l][c], sum[c]);
                taken[i][l][c] = weight * out[i][l][c];
                if (live(lane, c) && i * LANES + l < b.count) {
                    dv[value_vector(row, lane, c)] = taken[i][l][c];
                }
            }
        }
    }
    put_beta_gradient(b, lane, &out);

    if (DELTA) {
        var unused: Numbers;
        products(lane, &gates, &taken, &added, &far, &unused);
        for (var r = 0u; r < p.key / 4u; r++) {
            let x = given_rows(b, lane, r);
            let g = row_gates(b, lane, r, &gates);
            var s = rows_at(lane, b.from_at + 4u * r * p.value);
            finish_rows(b, lane, r, x, g, &s, &grads, &taken, &added, &near, &far, own);
        }
    }
    put_left(b, lane);
}

fn held_beta(b: Block, lane: u32, i: u32) -> f32 {
    if (!DELTA) {
        return 1.0;
    }
    let n = held_token(lane, i);
    return select(0.0, beta_of(token_row(b, n)), n < b.count);
}

// The gradients of four rows of the keys, and those rows of the state after the block.
fn finish_rows(b: Block, lane: u32, r: u32, x: Given, g: RowGates, s: ptr<function, StateRows>, grads: ptr<function, OfTokens>, taken: ptr<function, OfTokens>, added: ptr<function, OfTokens>, near: ptr<function, Pairs>, far: ptr<function, Pairs>, own: Numbers) {
    var sums = read_rows(lane, s, added);
    if (DECAY == DECAY_SCALAR) {
        for (var i = 0u; i < HELD; i++) {
            sums[i] *= g.win[i];
        }
    }
    for (var j = 0u; j < HELD; j++) {
        for (var m = 0u; m < LANES; m++) {
            let source = subgroupShuffle(x.q[j], m);
            var correction = vec4f();
            if (DELTA) {
                correction = subgroupShuffle(x.k[j], m);
            }
            var f = vec4f(1.0);
            if (DECAY == DECAY_ROWS) {
                f = subgroupShuffle(g.factor[j], m);
            }
            for (var i = 0u; i < HELD; i++) {
                if (i >= j) {
                    if (DECAY == DECAY_ROWS) {
                        sums[i] *= select(vec4f(1.0), f, j * LANES + m <= held_token(lane, i));
                    }
                    sums[i] = fma(vec4f((*near)[j][m][i]), source, sums[i]);
                    if (DELTA) {
                        sums[i] = fma(vec4f(-(*far)[j][m][i]), correction, sums[i]);
                    }
                }
            }
        }
    }
    var sources: Held;
    var corrections: Held;
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        let at = key_vector(token_row(b, n), r);
        if (n < b.count) {
            leave(i, at, x.k[i] * sums[i]);
            dk[at] = fma(vec4f(own[i]), x.q[i], sums[i]);
        }
        sources[i] = x.q[i] * g.tail[i];
        corrections[i] = -x.k[i] * g.tail[i];
    }
    var change: StateRows;
    for (var n = 0u; n < 4u; n++) {
        for (var c = 0u; c < COLUMNS; c++) {
            change[n][c] = vec4f();
        }
    }
    add_rows(sources, grads, &change);
    if (DELTA) {
        add_rows(corrections, taken, &change);
    }
    fade_rows(lane, g.block, s, &change);
    put_rows(lane, b.to_at + 4u * r * p.value, s);
}
