// Keys at each row's cut-off distance, by segments of keys.
//
// 4 kept: array<vec4u>, as attention_limits_kept reads it        5 ties: array<u32>, ties[row*segments + segment], 0 at first
@group(0) @binding(4) var<storage, read> kept: array<vec4u>;
@group(0) @binding(5) var<storage, read_write> ties: array<atomic<u32>>;

var<private> cut: vec4u;

fn open(s: Span, i: u32, row: u32, slot: u32) {
    cut[i] = kept[slot].y;
}

fn count_row(s: Span, i: u32, slot: u32, j: vec4u, d: vec4u, live: vec4<bool>) {
    let segments = (p.keys + p.segment - 1u) / p.segment;
    for (var n = 0u; n < 4u; n++) {
        if (live[n] && d[n] == cut[i]) {
            atomicAdd(&ties[slot * segments + (j[n] - s.k_first) / p.segment], 1u);
        }
    }
}

fn close(i: u32, slot: u32) {}
