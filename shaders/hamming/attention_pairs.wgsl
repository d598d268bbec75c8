// What kernels over pairs of queries and keys share: codes, and which keys a query sees.
//
// 0 a: array<u32>, codes of queries, a[a_offset + row*words + w], rows as in o        1 b: codes of keys, as a, rows as in v
// Asks for: p.causal, p.window, p.sinks, p.begin, p.end.
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;

// What a row of a sequence sees: keys .x <= j < .y, and j < .z.
fn interval(s: Span, row: u32) -> vec3u {
    let len = i32(s.k_end - s.k_first);
    let at = i32((row - s.q_first) % s.q_len) + len - i32(s.q_len);
    let window = i32(p.window);
    let end = clamp(at + select(window, 1, p.causal == 1u), 0, len);
    let begin = clamp(at - window + 1, 0, len);
    let sink = min(i32(p.sinks), select(len, end, p.causal == 1u));
    return vec3u(s.k_first) + vec3u(vec3i(begin, end, sink));
}

// The keys that a tile of rows walks in this dispatch, tile by tile: `begin` to `end`, without those from `sink` on and before `jump`.
struct Walk {
    begin: u32,
    end: u32,
    sink: u32,
    jump: u32,
}

// The walk through the part of a sequence's keys from `start` on, `len` long.
fn walk_of(s: Span, start: u32, len: u32, live: bool) -> Walk {
    // Positions of a tile's rows ascend, unless it holds several heads.
    let many = p.fold > 1u;
    let lowest = select(s.row, s.q_first, many);
    let highest = select(min(s.row + TILE, s.rows) - 1u, s.q_first + s.q_len - 1u, many);
    let low = interval(s, lowest);
    let high = interval(s, highest);
    let begin = s.k_first + start + p.begin;
    let end = min(max(high.y, high.z), s.k_first + start + min(p.end, len));
    return Walk(begin, select(0u, end, live), high.z, s.k_first + (low.x - s.k_first) / TILE * TILE);
}

// The next tile at or after `first`.
fn next(w: Walk, first: u32) -> u32 {
    return select(first, max(first, w.jump), first >= w.sink);
}

// What this invocation's four rows see.
var<private> from_key: vec4u;
var<private> to_key: vec4u;
var<private> sink_key: vec4u;

fn look(s: Span, first: u32) {
    for (var i = 0u; i < 4u; i++) {
        let row = first + i;
        let seen = select(vec3u(), interval(s, min(row, s.rows - 1u)), row < s.rows);
        from_key[i] = seen.x;
        to_key[i] = seen.y;
        sink_key[i] = seen.z;
    }
}

fn seen(i: u32, j: vec4u) -> vec4<bool> {
    return ((j >= vec4u(from_key[i])) & (j < vec4u(to_key[i]))) | (j < vec4u(sink_key[i]));
}
