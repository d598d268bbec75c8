// Linear attention in short blocks with the state in memory, for decoding, for short runs and for software adapters:
//
//   o_t = scale * ( exp((t+1) g) S^T q_t + sum_{j<=t} exp((t-j) g) (q_t . k_j) v_j )        t = 0 .. TOKENS-1
//   S  <- exp(n g) S + sum_j exp((n-1-j) g) k_j v_j^T                                       n tokens in the block
//
// A workgroup owns one (batch, head, segment) and 4*LANES columns of S; a lane owns 4 columns. Each row of S is read once a
// block and written back, so the state streams through `state`, K has no bound, and S is rounded once a block and not once a
// token, which counts in long sums. ROW_GROUPS sets of lanes share the rows; their outputs are summed in order.
//
// Parameters and bindings: `walk`, `outputs`.
var<workgroup> partial: array<vec4f, TOKENS * LANES * ROW_GROUPS>;

// `row` is the row of token 0 in units of a token's width. Past the end of the sequence keys and queries repeat the last
// token's: values are zero there and no output is written.
fn load_q(row: u32, t: u32, r: u32) -> vec4f {
    let at = p.q_offset + (row + min(t, p.tokens - 1u) * p.token_stride) * p.key + 4u * r;
    let left = p.key - 4u * r;
    let c = cells(at, left);
    return gather(at, left, q[c.x], q[c.y], q[c.z], q[c.w]);
}

fn load_k(row: u32, t: u32, r: u32) -> vec4f {
    let at = p.k_offset + (row + min(t, p.tokens - 1u) * p.token_stride) * p.key + 4u * r;
    let left = p.key - 4u * r;
    let c = cells(at, left);
    return gather(at, left, k[c.x], k[c.y], k[c.z], k[c.w]);
}

fn load_v(row: u32, t: u32, column: u32) -> vec4f {
    let live = t < p.tokens && column < p.value;
    let at = p.v_offset + select(row * p.value, (row + t * p.token_stride) * p.value + column, live);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}

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

fn walk(index: u32, local: vec3u) {
    let slice = index % p.slices;
    let segment = (index / p.slices) % p.segments;
    let head = p.first_head + index / (p.slices * p.segments);
    let row = (head / p.heads) * p.batch_stride + (head % p.heads) * p.head_stride;
    let column = (slice * LANES + local.x) * 4u;
    let live = column < p.value;
    let left = select(1u, p.value - column, live);
    let log_decay = log_decay_of(head % p.heads);
    let begin = segment * p.segment_tokens;
    let end = min(begin + p.segment_tokens, p.tokens);
    let rows = (p.key + 3u) / 4u;
    let state_at = (head * p.segments + segment) * p.key * p.value + select(0u, column, live);

    if (!RESUMES && live) {
        // Each invocation writes the rows that it reads below.
        for (var r = local.y; r < rows; r += ROW_GROUPS) {
            for (var i = 4u * r; i < min(4u * r + 4u, p.key); i++) {
                put_state(state_at + i * p.value, left, start_state(state_at + i * p.value, left));
            }
        }
    }
    for (var first = begin; first < end; first += TOKENS) {
        let count = min(TOKENS, end - first);
        let block = fade(log_decay * f32(count));
        var value: array<vec4f, TOKENS>;
        var out: array<vec4f, TOKENS>;
        for (var t = 0u; t < TOKENS; t++) {
            value[t] = load_v(row, first + t, column);
            out[t] = vec4f();
        }
        var weights: array<f32, HELD>;
        for (var i = 0u; i < HELD; i++) {
            weights[i] = exp(log_decay * f32(count - 1u - min(held_token(local.x, i), count - 1u)));
        }
        var scores: array<f32, SCORES>;
        for (var i = 0u; i < SCORES; i++) {
            scores[i] = 0.0;
        }
        for (var r = first_row(local.y); r < rows; r += ROW_GROUPS) {
            var held = hold_rows(local.x, row, first, r);
            add_scores(held, &scores);
            weigh_keys(&held, weights);
            let at = vec4u(state_at) + min(vec4u(4u * r) + vec4u(0u, 1u, 2u, 3u), vec4u(p.key - 1u)) * p.value;
            let s0 = load_state(at.x, left);
            let s1 = load_state(at.y, left);
            let s2 = load_state(at.z, left);
            let s3 = load_state(at.w, left);
            var d0 = vec4f();
            var d1 = vec4f();
            var d2 = vec4f();
            var d3 = vec4f();
            for (var t = 0u; t < TOKENS; t++) {
                let qt = query_row(held, t);
                out[t] = fma(vec4f(qt.x), s0, fma(vec4f(qt.y), s1, fma(vec4f(qt.z), s2, fma(vec4f(qt.w), s3, out[t]))));
                let kt = key_row(held, t);
                d0 = fma(vec4f(kt.x), value[t], d0);
                d1 = fma(vec4f(kt.y), value[t], d1);
                d2 = fma(vec4f(kt.z), value[t], d2);
                d3 = fma(vec4f(kt.w), value[t], d3);
            }
            if (live) {
                put_state(at.x, left, faded(block, s0) + d0);
                if (WHOLE || 4u * r + 1u < p.key) {
                    put_state(at.y, left, faded(block, s1) + d1);
                }
                if (WHOLE || 4u * r + 2u < p.key) {
                    put_state(at.z, left, faded(block, s2) + d2);
                }
                if (WHOLE || 4u * r + 3u < p.key) {
                    put_state(at.w, left, faded(block, s3) + d3);
                }
            }
        }
        weigh_scores(local.x, log_decay, &scores);
        for (var t = 0u; t < TOKENS; t++) {
            out[t] *= exp(log_decay * f32(t + 1u));
            for (var j = 0u; j <= t; j++) {
                out[t] = fma(vec4f(score(scores, t, j)), value[j], out[t]);
            }
        }
        if (ROW_GROUPS == 1u) {
            for (var t = 0u; t < TOKENS; t++) {
                if (live && first + t < end) {
                    put_o(row, first + t, column, p.scale * out[t]);
                }
            }
        } else {
            for (var t = 0u; t < TOKENS; t++) {
                partial[(t * ROW_GROUPS + local.y) * LANES + local.x] = out[t];
            }
            workgroupBarrier();
            for (var i = 0u; i < (TOKENS + ROW_GROUPS - 1u) / ROW_GROUPS; i++) {
                let t = i * ROW_GROUPS + local.y;
                if (t < TOKENS && live && first + t < end) {
                    var sum = vec4f();
                    for (var n = 0u; n < ROW_GROUPS; n++) {
                        sum += partial[(t * ROW_GROUPS + n) * LANES + local.x];
                    }
                    put_o(row, first + t, column, p.scale * sum);
                }
            }
            workgroupBarrier();
        }
    }
}
