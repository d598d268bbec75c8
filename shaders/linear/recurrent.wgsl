// Linear attention in short blocks with the state in memory: for decoding, for short runs and for software adapters. In a
// block of TOKENS, with G_rj the product of the factors of tokens j+1 .. r, W_r = G_r,-1 and n its length:
//
//   y_r = scale * ( (W_r x_r)^T S + sum_{j<=r} (x_r . G_rj a_j) u_j )        (j < r where STRICT)
//   S  <- W_{n-1} S + sum_j (G_{n-1,j} a_j) u_j^T
//   u_j = b_j, or with the delta rule beta_j e_j,  e_j = b_j - (W_j a_j)^T S - sum_{i<j} (a_j . G_ji a_i) u_i
//
// Factors belong to the walker, to rows (they multiply x and a) or to columns (they multiply y and u). Every factor is the
// product of exponentials of what is <= 0. REVERSE takes tokens from the last to the first.
//
// `pair_two` is a pair more of sources, `reader_two` a reader more. Where flows are asked for, they are those of the outputs
// without their own tokens' terms, which are added after.
//
// Loops over a block's tokens have constant bounds, their conditions are inside: Mesa unrolls no others, and indexes what is
// left rolled up lane by lane.
//
// A workgroup owns one walker and segment and 4*LANES columns of S; a lane owns 4 columns. Each row of S is read once a
// block and written back, so the state streams through `state`, the key width has no bound, and S is rounded once a block and
// not once a token, which counts in long sums. ROW_GROUPS sets of lanes share the rows; their outputs are summed in order.
const READERS: u32 = GROUP * TOKENS;
const SCORES: u32 = READERS * HELD * PAIRS;
// Whether a token's own term comes after those of earlier ones.
const OWN_LAST: bool = STRICT || FLOWS || PAIRS > 1u || TWO_READERS;
const SEVERAL: u32 = min(ROW_GROUPS - 1u, 1u);
var<workgroup> partial: array<vec4f, SEVERAL * READERS * LANES * ROW_GROUPS + 1u>;
var<workgroup> partial_den: array<f32, SEVERAL * READERS * ROW_GROUPS + 1u>;
var<workgroup> keys_sum: array<vec4f, KEY_VECS>;

fn load_state(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.state_offset + at, left);
    return gather_state(left, state[c.x], state[c.y], state[c.z], state[c.w]);
}

@compute @workgroup_size(LANES, ROW_GROUPS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(index, local);
    }
}

// The i-th token of a block.
fn token_of(anchor: u32, i: u32) -> u32 {
    return select(anchor + i, anchor - i, REVERSE);
}

fn row_of(rows: Rows, t: u32) -> u32 {
    return rows.first + t * rows.stride;
}

fn walk(index: u32, local: vec3u) {
    let slice = index % p.slices;
    let here = span_of(index / p.slices);
    let lane = local.x;
    let column = (slice * LANES + lane) * 4u;
    let live = column < p.value;
    let left = select(1u, p.value - column, live);
    let key_rows = rows_of(here.batch, head_of(here.head, p.k_heads), p.k_heads);
    let value_rows = rows_of(here.batch, head_of(here.head, p.v_heads), p.v_heads);
    // Before the loops: software adapters divide slowly, and unroll loops over whole arrays whatever these cost.
    var reader_rows: array<Rows, GROUP>;
    var output_rows: array<Rows, GROUP>;
    for (var n = 0u; n < GROUP; n++) {
        reader_rows[n] = rows_of_reader(here, n);
        output_rows[n] = rows_of_output(here, n);
    }
    let decay_head = head_of(here.head, p.g_heads);
    let decay_rows = rows_of(here.batch, decay_head, p.g_heads);
    let rows = (p.key + 3u) / 4u;
    let size = p.key * p.value;
    let state_at = here.state_at * size + select(0u, column, live);
    let z_at = (here.state_at * p.slices + slice) * p.key;

    if (!RESUMES && SOURCES && live) {
        // Each invocation writes the rows that it reads below.
        let slot = select(0u, select((here.begin - here.first) / CHUNK_TOKENS, (here.end - here.first + CHUNK_TOKENS - 1u) / CHUNK_TOKENS, REVERSE), KEEP);
        for (var r = first_row(local.y); r < rows; r += ROW_GROUPS) {
            for (var i = 4u * r; i < min(4u * r + 4u, p.key); i++) {
                put_state(state_at + slot * size + i * p.value, left, vec4f());
            }
        }
    }
    if (NORMALIZE) {
        for (var r = local.y * LANES + lane; r < rows; r += LANES * ROW_GROUPS) {
            var start = vec4f();
            if (RESUMES) {
                start = z_start(z_at + 4u * r, p.key - 4u * r);
            }
            keys_sum[r] = start;
        }
        workgroupBarrier();
    }

    let chunks = (here.end - here.begin + CHUNK_TOKENS - 1u) / CHUNK_TOKENS;
    for (var n = 0u; n < chunks; n++) {
        let chunk_begin = here.begin + select(n, chunks - 1u - n, REVERSE) * CHUNK_TOKENS;
        let chunk_tokens = min(CHUNK_TOKENS, here.end - chunk_begin);
        let slot = select(0u, (chunk_begin - here.first) / CHUNK_TOKENS, KEEP);
        var from_at = state_at + (slot + select(0u, 1u, KEEP && REVERSE)) * size;
        let to_at = state_at + (slot + select(0u, 1u, KEEP && !REVERSE)) * size;
        for (var done = 0u; done < chunk_tokens; done += TOKENS) {
            let count = min(TOKENS, chunk_tokens - done);
            let anchor = chunk_begin + select(done, chunk_tokens - 1u - done, REVERSE);

            // Factors: `step` of a token, `pair` between a token and a held source, `tail` of a held source at the block's end.
            var step: array<f32, TOKENS>;
            var pair: array<f32, TOKENS * HELD>;
            var tail: array<f32, HELD>;
            var block = fade(vec4f());
            if (DECAY == DECAY_SCALAR) {
                var held: array<f32, HELD>;
                for (var i = 0u; i < HELD; i++) {
                    let n = held_token(lane, i);
                    let t = token_of(anchor, min(n, count - 1u));
                    let g = token_log_decay(decay_head, row_of(decay_rows, fading_token(t, here.last)));
                    held[i] = select(0.0, g, n < count && fades(t, here.last));
                }
                var sum = 0.0;
                for (var t = 0u; t < TOKENS; t++) {
                    let g = number_of_token(held, t);
                    sum += g;
                    step[t] = exp(g);
                }
                block = fade(vec4f(sum));
            }
            for (var i = 0u; i < HELD; i++) {
                var w = 1.0;
                for (var t = 0u; t < TOKENS; t++) {
                    if (DECAY == DECAY_SCALAR) {
                        w *= select(1.0, step[t], t > held_token(lane, i));
                    }
                    pair[t * HELD + i] = w;
                }
                tail[i] = select(0.0, w, held_token(lane, i) < count);
            }
            var value: array<vec4f, TOKENS * PAIRS>;
            var added: array<vec4f, TOKENS * PAIRS>;
            var fading: array<vec4f, TOKENS>;
            for (var m = 0u; m < PAIRS; m++) {
                for (var t = 0u; t < TOKENS; t++) {
                    let at = m * TOKENS + t;
                    value[at] = column_of_pair(m, row_of(value_rows, token_of(anchor, min(t, count - 1u))), column, live && t < count);
                    added[at] = value[at];
                }
            }
            if (DECAY == DECAY_COLUMNS) {
                var sum = vec4f();
                for (var t = 0u; t < TOKENS; t++) {
                    let at = token_of(anchor, min(t, count - 1u));
                    let row = row_of(decay_rows, fading_token(at, here.last));
                    let g = select(vec4f(), channel_log_decay(row, select(0u, column, live), p.value), live && t < count && fades(at, here.last));
                    sum += g;
                    fading[t] = exp(g);
                }
                block = fade(sum);
                var w = vec4f(1.0);
                for (var back = 0u; back < TOKENS; back++) {
                    let t = TOKENS - 1u - back;
                    for (var m = 0u; m < PAIRS; m++) {
                        added[m * TOKENS + t] *= w;
                    }
                    w *= fading[t];
                }
            }
            var betas: array<f32, HELD>;
            if (DELTA) {
                for (var i = 0u; i < HELD; i++) {
                    let n = held_token(lane, i);
                    let b = beta_of(row_of(key_rows, token_of(anchor, min(n, count - 1u))));
                    betas[i] = select(0.0, b, n < count);
                }
            }

            var out: array<vec4f, READERS>;
            var den: array<f32, READERS>;
            var scores: array<f32, SCORES>;
            for (var t = 0u; t < READERS; t++) {
                out[t] = vec4f();
                den[t] = 0.0;
            }
            for (var i = 0u; i < SCORES; i++) {
                scores[i] = 0.0;
            }
            var missed: array<vec4f, TOKENS>;
            var keys: array<f32, SCORES>;
            for (var t = 0u; t < TOKENS; t++) {
                missed[t] = vec4f();
            }
            for (var i = 0u; i < SCORES; i++) {
                keys[i] = 0.0;
            }
            for (var r = first_row(local.y); r < rows; r += ROW_GROUPS) {
                var held: array<vec4f, HELD>;
                var second: array<vec4f, HELD>;
                var factor: array<vec4f, HELD>;
                var win: array<vec4f, HELD>;
                var total = vec4f();
                for (var i = 0u; i < HELD; i++) {
                    let n = held_token(lane, i);
                    let t = token_of(anchor, min(n, count - 1u));
                    held[i] = source_row(row_of(key_rows, t), 4u * r, true);
                    second[i] = second_row(row_of(key_rows, t), 4u * r);
                    factor[i] = vec4f();
                    win[i] = vec4f(1.0);
                    if (DECAY == DECAY_ROWS) {
                        let g = channel_log_decay(row_of(decay_rows, fading_token(t, here.last)), 4u * r, p.key);
                        factor[i] = select(vec4f(), g, n < count && fades(t, here.last));
                    }
                }
                if (DECAY == DECAY_ROWS) {
                    for (var t = 0u; t < TOKENS; t++) {
                        let g = of_token(factor, t);
                        total += g;
                        for (var i = 0u; i < HELD; i++) {
                            win[i] *= select(vec4f(1.0), exp(g), t <= held_token(lane, i));
                        }
                    }
                }
                // Scores first: nothing of the state is held while they are made.
                var readers: array<vec4f, GROUP * HELD>;
                if (READS) {
                    for (var n = 0u; n < GROUP; n++) {
                        var x: array<vec4f, HELD>;
                        for (var i = 0u; i < HELD; i++) {
                            let t = token_of(anchor, min(held_token(lane, i), count - 1u));
                            x[i] = row_of_reader(n, row_of(reader_rows[n], t), 4u * r);
                            readers[n * HELD + i] = x[i] * win[i];
                        }
                        if (SOURCES) {
                            score_rows(lane, x, held, factor, n * TOKENS * HELD, &scores);
                        }
                        if (PAIRS > 1u) {
                            score_rows(lane, x, second, factor, (READERS + n * TOKENS) * HELD, &scores);
                        }
                    }
                }
                var weighed = held;
                if (DELTA) {
                    score_rows(lane, held, held, factor, 0u, &keys);
                    if (PAIRS > 1u) {
                        score_rows(lane, held, second, factor, READERS * HELD, &keys);
                    }
                    for (var i = 0u; i < HELD; i++) {
                        weighed[i] *= win[i];
                    }
                } else if (SOURCES) {
                    if (DECAY == DECAY_ROWS) {
                        block = fade(total);
                        weighed = tailed(lane, held, factor);
                        second = tailed(lane, second, factor);
                    }
                    for (var i = 0u; i < HELD; i++) {
                        weighed[i] *= tail[i];
                        second[i] *= tail[i];
                    }
                }
                let at = min(vec4u(4u * r) + vec4u(0u, 1u, 2u, 3u), vec4u(p.key - 1u)) * p.value;
                let s0 = load_state(from_at + at.x, left);
                let s1 = load_state(from_at + at.y, left);
                let s2 = load_state(from_at + at.z, left);
                let s3 = load_state(from_at + at.w, left);
                if (READS) {
                    for (var n = 0u; n < GROUP; n++) {
                        var x: array<vec4f, HELD>;
                        for (var i = 0u; i < HELD; i++) {
                            x[i] = readers[n * HELD + i];
                        }
                        for (var t = 0u; t < TOKENS; t++) {
                            let row = of_token(x, t);
                            out[n * TOKENS + t] = add_row(out[n * TOKENS + t], row, s0, s1, s2, s3);
                            if (NORMALIZE) {
                                den[n * TOKENS + t] += dot(row, keys_sum[r]);
                            }
                        }
                    }
                }
                if (DELTA) {
                    for (var t = 0u; t < TOKENS; t++) {
                        let row = of_token(weighed, t);
                        missed[t] = add_row(missed[t], row, s0, s1, s2, s3);
                    }
                }
                if (SOURCES && !DELTA) {
                    add_rows(to_at, 4u * r, left, live, weighed, second, &added, block, s0, s1, s2, s3);
                }
            }

            if (DELTA) {
                var w = 1.0;
                for (var t = 0u; t < TOKENS; t++) {
                    if (DECAY == DECAY_SCALAR) {
                        w *= step[t];
                    }
                    // What is known already is summed first: its terms are smaller than what they are taken from.
                    var known = w * missed[t];
                    var mine: array<f32, HELD * PAIRS>;
                    for (var i = 0u; i < HELD; i++) {
                        for (var m = 0u; m < PAIRS; m++) {
                            mine[m * HELD + i] = keys[(m * READERS + t) * HELD + i] * pair[t * HELD + i];
                        }
                    }
                    for (var j = 0u; j < TOKENS; j++) {
                        if (j < t) {
                            known += number_of_pair(mine, 0u, j) * value[j];
                        }
                        if (PAIRS > 1u && j <= t) {
                            known += number_of_pair(mine, PAIRS - 1u, j) * value[(PAIRS - 1u) * TOKENS + j];
                        }
                    }
                    let e = value[t] - MISSES * known;
                    value[t] = MISSES * number_of_token(betas, t) * e;
                    if (OUT_MISSED && live && t < count) {
                        let row = row_of(rows_of(here.batch, here.head, p.state_heads), token_of(anchor, t));
                        put_o(row, column, e);
                        put_weighed(row, column, MISSES * value[t]);
                    }
                }
                for (var r = first_row(local.y); r < rows; r += ROW_GROUPS) {
                    var held: array<vec4f, HELD>;
                    var second: array<vec4f, HELD>;
                    var factor: array<vec4f, HELD>;
                    var total = vec4f();
                    for (var i = 0u; i < HELD; i++) {
                        let n = held_token(lane, i);
                        let t = token_of(anchor, min(n, count - 1u));
                        held[i] = source_row(row_of(key_rows, t), 4u * r, true);
                        second[i] = second_row(row_of(key_rows, t), 4u * r);
                        factor[i] = vec4f();
                        if (DECAY == DECAY_ROWS) {
                            let g = channel_log_decay(row_of(decay_rows, fading_token(t, here.last)), 4u * r, p.key);
                            factor[i] = select(vec4f(), g, n < count && fades(t, here.last));
                        }
                    }
                    if (DECAY == DECAY_ROWS) {
                        for (var t = 0u; t < TOKENS; t++) {
                            total += of_token(factor, t);
                        }
                        block = fade(total);
                        held = tailed(lane, held, factor);
                        second = tailed(lane, second, factor);
                    }
                    for (var i = 0u; i < HELD; i++) {
                        held[i] *= tail[i];
                        second[i] *= tail[i];
                    }
                    let row_at = min(vec4u(4u * r) + vec4u(0u, 1u, 2u, 3u), vec4u(p.key - 1u)) * p.value;
                    let s0 = load_state(from_at + row_at.x, left);
                    let s1 = load_state(from_at + row_at.y, left);
                    let s2 = load_state(from_at + row_at.z, left);
                    let s3 = load_state(from_at + row_at.w, left);
                    add_rows(to_at, 4u * r, left, live, held, second, &value, block, s0, s1, s2, s3);
                }
            }

            if (READS && !OUT_MISSED) {
                var flows: array<Flow, FLOW_SETS * TOKENS>;
                for (var t = 0u; t < FLOW_SETS * TOKENS; t++) {
                    flows[t] = Flow();
                }
                for (var n = 0u; n < GROUP; n++) {
                    let rows = output_rows[n];
                    var w = 1.0;
                    for (var t = 0u; t < TOKENS; t++) {
                        let at = n * TOKENS + t;
                        if (DECAY == DECAY_SCALAR) {
                            w *= step[t];
                            out[at] *= w;
                            den[at] *= w;
                        }
                        if (SOURCES) {
                            var mine: array<f32, HELD * PAIRS>;
                            for (var i = 0u; i < HELD; i++) {
                                for (var m = 0u; m < PAIRS; m++) {
                                    mine[m * HELD + i] = scores[(m * READERS + at) * HELD + i] * pair[t * HELD + i];
                                }
                            }
                            // Terms join what the state gave one after another: a sum of their own would be rounded
                            // otherwise with a decay of zero than without one.
                            // Those of gradients are summed first, which rounds less.
                            var near = out[at];
                            var wc = vec4f(1.0);
                            if (DECAY == DECAY_COLUMNS || OWN_LAST) {
                                near = vec4f();
                            }
                            if (DECAY == DECAY_COLUMNS) {
                                wc = select(wc, fading[t], vec4<bool>(OWN_LAST));
                            }
                            for (var past = 0u; past < TOKENS; past++) {
                                if (past <= t && (past > 0u || !OWN_LAST)) {
                                    let j = t - past;
                                    let score = number_of_pair(mine, 0u, j);
                                    near = fma(score * wc, value[j], near);
                                    if (PAIRS > 1u) {
                                        near = fma(number_of_pair(mine, PAIRS - 1u, j) * wc, value[(PAIRS - 1u) * TOKENS + j], near);
                                    }
                                    if (DECAY == DECAY_COLUMNS) {
                                        wc *= fading[j];
                                    }
                                    if (NORMALIZE) {
                                        den[at] += score;
                                    }
                                }
                            }
                            if (DECAY == DECAY_COLUMNS) {
                                out[at] = fma(out[at], wc, near);
                            } else if (OWN_LAST) {
                                out[at] += near;
                            } else {
                                out[at] = near;
                            }
                            if (FLOWS) {
                                let row = row_of(rows, token_of(anchor, min(t, count - 1u)));
                                flows[flow_set(n) * TOKENS + t] += flow_term(row, column, live, owns(n), value[t], finished(n, out[at], 0.0));
                            }
                            if (OWN_LAST && !STRICT && owns(n)) {
                                out[at] = fma(vec4f(number_of_pair(mine, 0u, t)), value[t], out[at]);
                            }
                        }
                    }
                }
                if (FLOWS) {
                    for (var n = 0u; n < FLOW_SETS; n++) {
                        put_flows(here, n, lane, slice, anchor, count, &flows);
                    }
                }
                write_outputs(here, local, anchor, count, column, live, &out, &den);
            }
            if (NORMALIZE && SOURCES) {
                // Every set of lanes has read the sum of keys.
                workgroupBarrier();
                for (var r = local.y * LANES + lane; r < rows; r += LANES * ROW_GROUPS) {
                    var sum = vec4f();
                    var total = vec4f();
                    for (var t = 0u; t < TOKENS; t++) {
                        let at = token_of(anchor, min(t, count - 1u));
                        if (DECAY == DECAY_SCALAR) {
                            sum *= step[t];
                        }
                        if (DECAY == DECAY_ROWS) {
                            let g = channel_log_decay(row_of(decay_rows, fading_token(at, here.last)), 4u * r, p.key);
                            let acts = select(vec4f(), g, t < count && fades(at, here.last));
                            sum *= exp(acts);
                            total += acts;
                        }
                        sum += source_row(row_of(key_rows, at), 4u * r, t < count);
                    }
                    if (DECAY == DECAY_ROWS) {
                        block = fade(total);
                    }
                    keys_sum[r] = faded(block, keys_sum[r]) + sum;
                }
                workgroupBarrier();
            }
            from_at = to_at;
        }
    }
    if (NORMALIZE && SOURCES) {
        for (var r = local.y * LANES + lane; r < rows; r += LANES * ROW_GROUPS) {
            put_z(z_at + 4u * r, p.key - 4u * r, keys_sum[r]);
        }
    }
}

fn write_outputs(here: Span, local: vec3u, anchor: u32, count: u32, column: u32, live: bool, out: ptr<function, array<vec4f, READERS>>, den: ptr<function, array<f32, READERS>>) {
    if (ROW_GROUPS == 1u) {
        for (var n = 0u; n < GROUP; n++) {
            let rows = rows_of_output(here, n);
            for (var t = 0u; t < TOKENS; t++) {
                if (live && t < count) {
                    let row = row_of(rows, token_of(anchor, t));
                    put_output(n, row, column, finished(n, (*out)[n * TOKENS + t], (*den)[n * TOKENS + t]) + carried(row, column));
                }
            }
        }
    } else {
        for (var t = 0u; t < READERS; t++) {
            partial[(t * ROW_GROUPS + local.y) * LANES + local.x] = (*out)[t];
            if (NORMALIZE && local.x == 0u) {
                partial_den[t * ROW_GROUPS + local.y] = (*den)[t];
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < (READERS + ROW_GROUPS - 1u) / ROW_GROUPS; i++) {
            let t = i * ROW_GROUPS + local.y;
            if (t < READERS && live && t % TOKENS < count) {
                var sum = vec4f();
                var below = 0.0;
                for (var n = 0u; n < ROW_GROUPS; n++) {
                    sum += partial[(t * ROW_GROUPS + n) * LANES + local.x];
                    if (NORMALIZE) {
                        below += partial_den[t * ROW_GROUPS + n];
                    }
                }
                let rows = rows_of_output(here, t / TOKENS);
                put_output(t / TOKENS, row_of(rows, token_of(anchor, t % TOKENS)), column, finished(t / TOKENS, sum, below));
            }
        }
        workgroupBarrier();
    }
}
