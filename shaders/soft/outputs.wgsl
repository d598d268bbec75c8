// Rows are the tokens of a tile, others landmarks.
//
// 3 o: array<OutCell>, o[out_offset + row(t) * columns + c]
@group(0) @binding(3) var<storage, read_write> o: array<OutCell>;

fn put_row(here: Place, t: u32, column: u32, x: vec4f) {
    if (t < here.end && column < p.columns) {
        let at = p.out_offset + (here.row + t * p.token_stride) * p.columns + column;
        o[at >> PART_SHIFT] = out_part(x, 0u);
        if (!WHOLE) {
            for (var i = 1u; i < min(PARTS, p.columns - column); i++) {
                o[(at + i) >> PART_SHIFT] = out_part(x, i);
            }
        }
    }
}

fn first_row(here: Place) -> u32 {
    return here.begin;
}

fn row_key(here: Place, t: u32, channel: u32) -> vec4f {
    return load_q(here, t, channel);
}

fn first_other(here: Place) -> u32 {
    return 0u;
}

fn end_other(here: Place) -> u32 {
    return p.landmarks;
}

fn other_key(here: Place, a: u32, channel: u32) -> vec4f {
    return load_l(here, a, channel);
}
