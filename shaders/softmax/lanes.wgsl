// Exact softmax attention for software adapters, streamed over blocks of KEYS keys:
//
//   s_j = scale * q . k_j      m' = max(m, s_j)      w_j = exp(s_j - m')      l' = exp(m - m') l + sum w_j
//   o' = exp(m - m') o + sum w_j v_j      and o / l at the end
//
// A workgroup is one subgroup; a lane owns ROWS query rows. Keys and values are read one token a lane and passed round by
// shuffles, because a software adapter serves each lane's load by itself. Outputs accumulate in `o`.
const HELD: u32 = KEYS / LANES;
const QUADS: u32 = KEYS / 4u;
const ROWS_TILE: u32 = ROWS * LANES;

// Channels of four tokens, by channel.
struct Quad {
    x: vec4f,
    y: vec4f,
    z: vec4f,
    w: vec4f,
}

fn quad(held: vec4f, n: u32) -> Quad {
    let a = subgroupShuffle(held, 4u * n);
    let b = subgroupShuffle(held, 4u * n + 1u);
    let c = subgroupShuffle(held, 4u * n + 2u);
    let d = subgroupShuffle(held, 4u * n + 3u);
    return Quad(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y), vec4f(a.z, b.z, c.z, d.z), vec4f(a.w, b.w, c.w, d.w));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let here = place(group_index(group, grid));
    var most: array<f32, ROWS>;
    var sum: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let at = p.rows_offset + here.head * p.tokens + min(here.first + r * LANES + lane, p.tokens - 1u);
        most[r] = select(carried_most(at), LOWEST, here.opens);
        sum[r] = select(carried_sum(at), 0.0, here.opens);
    }
    for (var first = here.begin; first < here.end; first += KEYS) {
        // Scores of four keys a vector, QUADS vectors a row.
        var s: array<vec4f, ROWS * QUADS>;
        for (var i = 0u; i < ROWS * QUADS; i++) {
            s[i] = vec4f();
        }
        for (var c = 0u; c < p.key; c += 4u) {
            var query: array<vec4f, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                query[r] = load_q(here, here.first + r * LANES + lane, c);
            }
            for (var i = 0u; i < HELD; i++) {
                let held = load_k(here, first + i * LANES + lane, c);
                for (var n = 0u; n < LANES / 4u; n++) {
                    let k4 = quad(held, n);
                    for (var r = 0u; r < ROWS; r++) {
                        let at = r * QUADS + i * (LANES / 4u) + n;
                        let x = query[r];
                        s[at] = add_row(s[at], x, k4.x, k4.y, k4.z, k4.w);
                    }
                }
            }
        }
        var keep: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let t = here.first + r * LANES + lane;
            // Keys of this block that the query sees.
            let ahead = select(here.end, min(here.end, t + 1u), CAUSAL);
            let live = ahead - min(ahead, first);
            var largest4 = vec4f(most[r]);
            for (var n = 0u; n < QUADS; n++) {
                let at = r * QUADS + n;
                s[at] = select(vec4f(LOWEST), p.scale * s[at], vec4u(4u * n) + vec4u(0u, 1u, 2u, 3u) < vec4u(live));
                largest4 = max(largest4, s[at]);
            }
            let largest = max(max(largest4.x, largest4.y), max(largest4.z, largest4.w));
            keep[r] = exp(most[r] - largest);
            most[r] = largest;
            var added = vec4f();
            for (var n = 0u; n < QUADS; n++) {
                let at = r * QUADS + n;
                s[at] = select(vec4f(), exp(s[at] - vec4f(largest)), vec4u(4u * n) + vec4u(0u, 1u, 2u, 3u) < vec4u(live));
                added += s[at];
            }
            sum[r] = fma(keep[r], sum[r], added.x + added.y + added.z + added.w);
        }
        let fresh = here.opens && first == here.begin;
        let closing = here.closes && first + KEYS >= here.end;
        for (var c = 0u; c < p.value; c += 4u) {
            var out: array<vec4f, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                out[r] = select(keep[r] * load_o(here, here.first + r * LANES + lane, c), vec4f(), fresh);
            }
            for (var i = 0u; i < HELD; i++) {
                let held = load_v(here, first + i * LANES + lane, c);
                for (var n = 0u; n < LANES / 4u; n++) {
                    let a = subgroupShuffle(held, 4u * n);
                    let b = subgroupShuffle(held, 4u * n + 1u);
                    let c = subgroupShuffle(held, 4u * n + 2u);
                    let d = subgroupShuffle(held, 4u * n + 3u);
                    for (var r = 0u; r < ROWS; r++) {
                        let w = s[r * QUADS + i * (LANES / 4u) + n];
                        out[r] = add_row(out[r], w, a, b, c, d);
                    }
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                put_o(here, here.first + r * LANES + lane, c, select(out[r], out[r] / sum[r], closing));
            }
        }
    }
    if (CARRIES && here.begin < here.end) {
        for (var r = 0u; r < ROWS; r++) {
            let t = here.first + r * LANES + lane;
            if (t < p.tokens) {
                carry(p.rows_offset + here.head * p.tokens + t, most[r], sum[r]);
            }
        }
    }
}
