// Four rows of the keys in a short block: scores of readers against sources, what later tokens leave of them, and what they
// add to the state.

// What entry i of a lane holds of pair m, from the lane that has token t.
fn number_of_pair(x: array<f32, HELD * PAIRS>, m: u32, t: u32) -> f32 {
    var mine: array<f32, HELD>;
    for (var i = 0u; i < HELD; i++) {
        mine[i] = x[m * HELD + i];
    }
    return number_of_token(mine, t);
}

// Scores of all readers against the held sources, rows 4r .. 4r+3.
fn score_rows(lane: u32, x: array<vec4f, HELD>, a: array<vec4f, HELD>, log_decay: array<vec4f, HELD>, first: u32, scores: ptr<function, array<f32, SCORES>>) {
    var weighed = a;
    for (var t = 0u; t < TOKENS; t++) {
        let reader = of_token(x, t);
        var f = vec4f(1.0);
        if (DECAY == DECAY_ROWS) {
            f = exp(of_token(log_decay, t));
        }
        for (var i = 0u; i < HELD; i++) {
            if (i <= last_held(t)) {
                if (DECAY == DECAY_ROWS) {
                    weighed[i] *= select(vec4f(1.0), f, t > held_token(lane, i));
                }
                (*scores)[first + t * HELD + i] += dot(reader, weighed[i]);
            }
        }
    }
}

// Rows times the factors of later tokens.
fn tailed(lane: u32, a: array<vec4f, HELD>, log_decay: array<vec4f, HELD>) -> array<vec4f, HELD> {
    var weighed = a;
    for (var t = 1u; t < TOKENS; t++) {
        let f = exp(of_token(log_decay, t));
        for (var i = 0u; i < HELD; i++) {
            if (i <= last_held(t)) {
                weighed[i] *= select(vec4f(1.0), f, t > held_token(lane, i));
            }
        }
    }
    return weighed;
}

// Rows r .. r+3 of the state after the block.
fn add_rows(at: u32, r: u32, left: u32, live: bool, a: array<vec4f, HELD>, second: array<vec4f, HELD>, value: ptr<function, array<vec4f, TOKENS * PAIRS>>, block: Fade, s0: vec4f, s1: vec4f, s2: vec4f, s3: vec4f) {
    var d0 = vec4f();
    var d1 = vec4f();
    var d2 = vec4f();
    var d3 = vec4f();
    for (var t = 0u; t < TOKENS; t++) {
        let row = of_token(a, t);
        d0 = fma(vec4f(row.x), (*value)[t], d0);
        d1 = fma(vec4f(row.y), (*value)[t], d1);
        d2 = fma(vec4f(row.z), (*value)[t], d2);
        d3 = fma(vec4f(row.w), (*value)[t], d3);
    }
    if (PAIRS > 1u) {
        for (var t = 0u; t < TOKENS; t++) {
            let row = of_token(second, t);
            let b = (*value)[(PAIRS - 1u) * TOKENS + t];
            d0 = fma(vec4f(row.x), b, d0);
            d1 = fma(vec4f(row.y), b, d1);
            d2 = fma(vec4f(row.z), b, d2);
            d3 = fma(vec4f(row.w), b, d3);
        }
    }
    if (live) {
        put_state(at + r * p.value, left, faded(fade_of_rows(block, 0u), s0) + d0);
        if (WHOLE || r + 1u < p.key) {
            put_state(at + (r + 1u) * p.value, left, faded(fade_of_rows(block, 1u), s1) + d1);
        }
        if (WHOLE || r + 2u < p.key) {
            put_state(at + (r + 2u) * p.value, left, faded(fade_of_rows(block, 2u), s2) + d2);
        }
        if (WHOLE || r + 3u < p.key) {
            put_state(at + (r + 3u) * p.value, left, faded(fade_of_rows(block, 3u), s3) + d3);
        }
    }
}

// The fade of a block for one of four rows: entry n where rows fade, the columns' otherwise.
fn fade_of_rows(block: Fade, n: u32) -> Fade {
    if (DECAY == DECAY_ROWS) {
        return fade_of_row(block, n);
    }
    return block;
}
