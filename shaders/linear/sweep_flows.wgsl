// Gradients of log decays. That of token t is the sum of all flows from sources before t to sinks at t or after, per channel:
//
//   F_first = exp(g_first) * rowsum(S * D)        flows across the start of a chunk, S the state there, D the gradient of the next
//   F_{t+1} = F_t - came_t + left_t        dg_t = F_t        t from the chunk's first token to its last
//
// Starting afresh at every chunk keeps the sums from cancelling, and every term of theirs is such a gradient: the state after a
// token is no start, because what it just took from the token does not flow through any decay.
//
// 0 q: array<vec4f>, like k
@group(0) @binding(0) var<storage, read> q: array<vec4f>;

// A lane's part of the flows across the start of a chunk.
fn crossing(b: Block, lane: u32, r: u32, s: ptr<function, StateRows>) -> vec4f {
    var d = rows_at(lane, b.slot_at + 4u * r * p.value);
    var sum = vec4f();
    for (var c = 0u; c < COLUMNS; c++) {
        sum += vec4f(dot((*s)[0][c], d[0][c]), dot((*s)[1][c], d[1][c]), dot((*s)[2][c], d[2][c]), dot((*s)[3][c], d[3][c]));
    }
    return sum;
}

fn came(b: Block, lane: u32, i: u32, at: u32, keys: Held, sums: Held, corrections: Held) -> vec4f {
    return q[at] * sums[i] + keys[i] * corrections[i];
}
