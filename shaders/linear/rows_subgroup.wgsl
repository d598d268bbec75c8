// Key and query rows read one token a lane and passed round by shuffles: a software adapter serves each lane's load by
// itself, so one load is spread over all of them, and so are the scores. The workgroup is one subgroup of LANES invocations.
const HELD: u32 = (TOKENS + LANES - 1u) / LANES;
const SCORES: u32 = TOKENS * HELD;

struct Rows {
    k: array<vec4f, HELD>,
    q: array<vec4f, HELD>,
}

// The token of the block that entry i of a lane stands for.
fn held_token(lane: u32, i: u32) -> u32 {
    return i * LANES + lane;
}

fn hold_rows(lane: u32, at: u32, first: u32, r: u32) -> Rows {
    var rows: Rows;
    for (var i = 0u; i < HELD; i++) {
        rows.k[i] = load_k(at, first + held_token(lane, i), r);
        rows.q[i] = load_q(at, first + held_token(lane, i), r);
    }
    return rows;
}

fn query_row(rows: Rows, t: u32) -> vec4f {
    return subgroupShuffle(rows.q[t / LANES], t % LANES);
}

// k_t times its weight, once weighed.
fn key_row(rows: Rows, t: u32) -> vec4f {
    return subgroupShuffle(rows.k[t / LANES], t % LANES);
}

fn weigh_keys(rows: ptr<function, Rows>, weights: array<f32, HELD>) {
    for (var i = 0u; i < HELD; i++) {
        (*rows).k[i] *= weights[i];
    }
}

fn add_scores(rows: Rows, scores: ptr<function, array<f32, SCORES>>) {
    for (var t = 0u; t < TOKENS; t++) {
        let qt = query_row(rows, t);
        for (var i = 0u; i <= t / LANES; i++) {
            (*scores)[t * HELD + i] += dot(qt, rows.k[i]);
        }
    }
}

fn weigh_scores(lane: u32, log_decay: f32, scores: ptr<function, array<f32, SCORES>>) {
    for (var t = 0u; t < TOKENS; t++) {
        for (var i = 0u; i <= t / LANES; i++) {
            (*scores)[t * HELD + i] *= exp(log_decay * f32(t - min(t, held_token(lane, i))));
        }
    }
}

fn score(scores: array<f32, SCORES>, t: u32, j: u32) -> f32 {
    return subgroupShuffle(scores[t * HELD + j / LANES], j % LANES);
}

// One set of lanes has all rows.
fn first_row(row_group: u32) -> u32 {
    return 0u;
}
