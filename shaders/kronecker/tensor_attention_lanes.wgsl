// Exact third-order attention for software adapters, streamed over blocks of COLUMNS columns. Of a row, a query i with a partner j:
//
//   s_l = scale · t(q_i, k1_j, k2_l) in units of log 2      m' = max(m, s_l)      w_l = 2^(s_l - m')      L' = 2^(m - m') L + sum w_l
//   O' = 2^(m - m') O + v1_j ∘ sum w_l v2_l
//
// A row goes on from partner j to j + 2^y_bits. tensor_merge joins the rows of a query.
//
// 7 parts, BLOCK = ceil(V/4) + 1: O in fours of channels, then (L, m).

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let block = value_chunks() + 1u;
    let here = place(group_index(group, grid), 1u);
    enter(here, lane);
    open(here, lane, block);
    var most: array<f32, EACH>;
    var sum: array<f32, EACH>;
    for (var r = 0u; r < EACH; r++) {
        let state = parts[sums_of(here, lane * EACH + r, block) + value_chunks()];
        sum[r] = select(state.x, 0.0, here.opens);
        most[r] = select(state.y, LOWEST, here.opens);
    }
    for (var y0 = here.y0; y0 < here.y1; y0 += 1u << p.y_bits) {
        enter_block(here, y0, lane);
        let span = z_part(here, y0);
        for (var z0 = span.x; z0 < span.y; z0 += COLUMNS) {
            var s: array<vec4f, EACH * QUADS>;
            multiply_keys(here, z0, lane, &s);
            var keep: array<f32, EACH>;
            for (var r = 0u; r < EACH; r++) {
                let sees = seen(owner(here, lane * EACH + r), partner(y0, lane * EACH + r));
                var largest4 = vec4f(most[r]);
                for (var n = 0u; n < QUADS; n++) {
                    let at = r * QUADS + n;
                    s[at] = select(vec4f(LOWEST), p.scale * LOG2E * s[at], mask(sees, z0, n));
                    largest4 = max(largest4, s[at]);
                }
                let largest = max(max(largest4.x, largest4.y), max(largest4.z, largest4.w));
                keep[r] = exp2(most[r] - largest);
                most[r] = largest;
                var added = vec4f();
                for (var n = 0u; n < QUADS; n++) {
                    let at = r * QUADS + n;
                    s[at] = select(vec4f(), exp2(s[at] - vec4f(largest)), mask(sees, z0, n));
                    added += s[at];
                }
                sum[r] = fma(keep[r], sum[r], added.x + added.y + added.z + added.w);
            }
            for (var c = 0u; c < value_chunks(); c++) {
                var sums = weigh(true, here, z0, c, lane, &s);
                var of_y = load_yv(at_y[0], c);
                for (var r = 0u; r < EACH; r++) {
                    if (r > 0u && !SAME_PARTNER) {
                        of_y = load_yv(at_y[r], c);
                    }
                    let at = sums_of(here, lane * EACH + r, block) + c;
                    parts[at] = fma(of_y, sums[r], keep[r] * parts[at]);
                }
            }
        }
    }
    if (here.live) {
        for (var r = 0u; r < EACH; r++) {
            parts[sums_of(here, lane * EACH + r, block) + value_chunks()] = vec4f(sum[r], most[r], 0.0, 0.0);
        }
    }
}
