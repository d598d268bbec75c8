// Gradients of log decays per channel.
//
// 10 left: array<vec4f>, like k        11 dg: array<vec4f>, like k
@group(0) @binding(10) var<storage, read> left: array<vec4f>;
@group(0) @binding(11) var<storage, read_write> dg: array<vec4f>;

// F after the tokens so far.
var<private> across: array<vec4f, KEY_VECS>;

fn cross(b: Block, lane: u32, r: u32, s: ptr<function, StateRows>, g: RowGates) {
    if (b.first) {
        across[r] = over_lanes(crossing(b, lane, r, s)) * subgroupShuffle(g.factor[0], 0u);
    }
}

fn arrive(b: Block, lane: u32, r: u32, keys: Held, sums: Held, corrections: Held) {
    var flows: Held;
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        let at = key_vector(token_row(b, n), r);
        flows[i] = select(vec4f(), came(b, lane, i, at, keys, sums, corrections) - left[at], n < b.count);
    }
    var total = vec4f();
    let before = sums_before(lane, flows, &total);
    let start = across[r];
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        if (n < b.count) {
            dg[key_vector(token_row(b, n), r)] = start - before[i];
        }
    }
    across[r] = start - total;
}

fn put_decay_gradient(b: Block, lane: u32, gates: ptr<function, Gates>) {}

fn close(here: Span, lane: u32) {}
