// Rows read one token a lane and passed round by shuffles: a software adapter serves each lane's load by itself, so one load
// is spread over all of them, and so are the scores. The workgroup is one subgroup of LANES invocations.
const HELD: u32 = (TOKENS + LANES - 1u) / LANES;

// The token of the block that entry i of a lane stands for.
fn held_token(lane: u32, i: u32) -> u32 {
    return i * LANES + lane;
}

// The last entry of a lane that stands for a token up to t.
fn last_held(t: u32) -> u32 {
    return t / LANES;
}

fn of_token(x: array<vec4f, HELD>, t: u32) -> vec4f {
    return subgroupShuffle(x[t / LANES], t % LANES);
}

fn number_of_token(x: array<f32, HELD>, t: u32) -> f32 {
    return subgroupShuffle(x[t / LANES], t % LANES);
}

// One set of lanes has all rows: a loop that all lanes run alike.
fn first_row(row_group: u32) -> u32 {
    return 0u;
}
