// Rows are landmarks, others the tokens of a segment.
//
// 3 pieces: array<StateCell>, pieces[head*out_stride + (segment*landmarks + a)*columns + c]
@group(0) @binding(3) var<storage, read_write> pieces: array<StateCell>;

fn put_row(here: Place, a: u32, column: u32, x: vec4f) {
    if (a < p.landmarks && column < p.columns) {
        let at = here.head * p.out_stride + (here.segment * p.landmarks + a) * p.columns + column;
        pieces[at >> PART_SHIFT] = state_part(x, 0u);
        if (!WHOLE) {
            for (var i = 1u; i < min(PARTS, p.columns - column); i++) {
                pieces[(at + i) >> PART_SHIFT] = state_part(x, i);
            }
        }
    }
}

fn first_row(here: Place) -> u32 {
    return here.mark;
}

fn row_key(here: Place, a: u32, channel: u32) -> vec4f {
    return load_l(here, a, channel);
}

fn first_other(here: Place) -> u32 {
    return here.begin;
}

fn end_other(here: Place) -> u32 {
    return here.end;
}

fn other_key(here: Place, t: u32, channel: u32) -> vec4f {
    return load_q(here, t, channel);
}
