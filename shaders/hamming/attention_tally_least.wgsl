// How far each row's heaviest key is from the heaviest distance there is, 0 or `bits`.
//
// 3 table: array<f32>, see attention_span        4 least: array<u32>, as attention_limits_least reads it, 0 at first
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> least: array<atomic<u32>>;

var<private> flip: vec4u;
var<private> best: vec4u;

fn open(s: Span, i: u32, row: u32, slot: u32) {
    flip[i] = u32(table[table_of(s, min(row, s.rows - 1u)) + p.bits + 1u]);
    best[i] = 0u;
}

fn count_row(s: Span, i: u32, slot: u32, j: vec4u, d: vec4u, live: vec4<bool>) {
    let far = max(d, vec4u(flip[i])) - min(d, vec4u(flip[i]));
    let x = select(vec4u(), vec4u(p.bits + 1u) - min(far, vec4u(p.bits)), live);
    best[i] = max(best[i], max(max(x.x, x.y), max(x.z, x.w)));
}

fn close(i: u32, slot: u32) {
    if (best[i] > 0u) {
        atomicMax(&least[slot], best[i]);
    }
}
