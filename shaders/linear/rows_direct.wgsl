// Key and query rows read where they are used: every lane reads one address, which GPUs serve at once. Each lane has all
// scores of the block.
const HELD: u32 = TOKENS;
const SCORES: u32 = TOKENS * TOKENS;

struct Rows {
    at: u32,
    first: u32,
    r: u32,
    weights: array<f32, HELD>,
}

// The token of the block that entry i of a lane stands for.
fn held_token(lane: u32, i: u32) -> u32 {
    return i;
}

fn hold_rows(lane: u32, at: u32, first: u32, r: u32) -> Rows {
    var rows: Rows;
    rows.at = at;
    rows.first = first;
    rows.r = r;
    return rows;
}

fn query_row(rows: Rows, t: u32) -> vec4f {
    return load_q(rows.at, rows.first + t, rows.r);
}

// k_t times its weight.
fn key_row(rows: Rows, t: u32) -> vec4f {
    return rows.weights[t] * load_k(rows.at, rows.first + t, rows.r);
}

fn weigh_keys(rows: ptr<function, Rows>, weights: array<f32, HELD>) {
    (*rows).weights = weights;
}

fn add_scores(rows: Rows, scores: ptr<function, array<f32, SCORES>>) {
    for (var t = 0u; t < TOKENS; t++) {
        let qt = query_row(rows, t);
        for (var j = 0u; j <= t; j++) {
            (*scores)[t * TOKENS + j] += dot(qt, load_k(rows.at, rows.first + j, rows.r));
        }
    }
}

fn weigh_scores(lane: u32, log_decay: f32, scores: ptr<function, array<f32, SCORES>>) {
    for (var t = 0u; t < TOKENS; t++) {
        for (var j = 0u; j <= t; j++) {
            (*scores)[t * TOKENS + j] *= exp(log_decay * f32(t - j));
        }
    }
}

fn score(scores: array<f32, SCORES>, t: u32, j: u32) -> f32 {
    return scores[t * TOKENS + j];
}

// The first row of a set of lanes.
fn first_row(row_group: u32) -> u32 {
    return row_group;
}
