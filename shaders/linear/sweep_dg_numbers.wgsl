// Gradients of log decays summed over channels: one per token, or the sum of a walker's where it has one log decay.
//
// 10 left: array<f32>, left[beta_offset + row]
// 11 dg: array<f32>, likewise, or added to row number base of [states, heads], base the states before the sequence's
@group(0) @binding(10) var<storage, read> left: array<f32>;
@group(0) @binding(11) var<storage, read_write> dg: array<f32>;

// A lane's part of the flows across the start of a chunk and into tokens; F after the tokens so far; the gradients so far.
var<private> crossed: f32;
var<private> arrived: Numbers;
var<private> across: f32;
var<private> gradients: f32;

fn cross(b: Block, lane: u32, r: u32, s: ptr<function, StateRows>, g: RowGates) {
    if (b.first) {
        crossed += dot(crossing(b, lane, r, s), vec4f(1.0));
    }
}

fn arrive(b: Block, lane: u32, r: u32, keys: Held, sums: Held, corrections: Held) {
    for (var i = 0u; i < HELD; i++) {
        let at = key_vector(token_row(b, held_token(lane, i)), r);
        arrived[i] += dot(came(b, lane, i, at, keys, sums, corrections), vec4f(1.0));
    }
}

fn put_decay_gradient(b: Block, lane: u32, gates: ptr<function, Gates>) {
    if (b.first) {
        across = over_lanes(vec4f(crossed, 0.0, 0.0, 0.0)).x * (*gates).step[0][0];
        crossed = 0.0;
    }
    var flows: Held;
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        let flow = arrived[i] - left[p.beta_offset + token_row(b, n)];
        flows[i] = vec4f(select(0.0, flow, n < b.count), 0.0, 0.0, 0.0);
        arrived[i] = 0.0;
    }
    var total = vec4f();
    let before = sums_before(lane, flows, &total);
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        if (n < b.count) {
            let gradient = across - before[i].x;
            if (UNIFORM) {
                gradients += gradient;
            } else {
                dg[p.beta_offset + token_row(b, n)] = gradient;
            }
        }
    }
    across -= total.x;
}

fn close(here: Span, lane: u32) {
    if (UNIFORM) {
        let sum = over_lanes(vec4f(gradients, 0.0, 0.0, 0.0)).x;
        if (lane == 0u) {
            dg[here.state_at - here.head * ((here.last - here.first + CHUNK_TOKENS - 1u) / CHUNK_TOKENS)] += sum;
        }
    }
}
