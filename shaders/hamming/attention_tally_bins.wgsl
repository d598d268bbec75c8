// Keys at each distance of each row.
//
// 4 bins: array<u32>, bins[row*(bits + 1) + d], 0 at first
@group(0) @binding(4) var<storage, read_write> bins: array<atomic<u32>>;

fn open(s: Span, i: u32, row: u32, slot: u32) {}

fn count_row(s: Span, i: u32, slot: u32, j: vec4u, d: vec4u, live: vec4<bool>) {
    for (var n = 0u; n < 4u; n++) {
        if (live[n]) {
            atomicAdd(&bins[slot * (p.bits + 1u) + min(d[n], p.bits)], 1u);
        }
    }
}

fn close(i: u32, slot: u32) {}
