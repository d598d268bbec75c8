// Keys in several dispatches: outputs stay unnormalised until the last, with the largest score and the sum of each row here.
// 4 rows: array<vec2f>, rows[head*T + t] = (largest score, sum of the weights relative to it), head counted over batch x heads
@group(0) @binding(4) var<storage, read_write> rows: array<vec2f>;

const CARRIES: bool = true;

fn carried_most(at: u32) -> f32 {
    return rows[at].x;
}

fn carried_sum(at: u32) -> f32 {
    return rows[at].y;
}

fn carry(at: u32, most: f32, sum: f32) {
    rows[at] = vec2f(most, sum);
}
