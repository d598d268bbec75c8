// Rows read where they are used: every lane reads one address, which GPUs serve at once, and holds all tokens of the block.
const HELD: u32 = TOKENS;

// The token of the block that entry i of a lane stands for.
fn held_token(lane: u32, i: u32) -> u32 {
    return i;
}

// The last entry of a lane that stands for a token up to t.
fn last_held(t: u32) -> u32 {
    return t;
}

fn of_token(x: array<vec4f, HELD>, t: u32) -> vec4f {
    return x[t];
}

fn number_of_token(x: array<f32, HELD>, t: u32) -> f32 {
    return x[t];
}

// The first row of a set of lanes.
fn first_row(row_group: u32) -> u32 {
    return row_group;
}
