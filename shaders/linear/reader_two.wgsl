// Two tensors of readers and two of outputs, with the heads of states (GROUP = 2 is their number). The second reads earlier
// tokens only, and what it reads gets a minus sign and not the scale.
//
// 10 second_q: array<Cell>, like q        11 second_o: array<OutCell>, like o
const TWO_READERS: bool = true;
const FLOW_SETS: u32 = 1u;
@group(0) @binding(10) var<storage, read> second_q: array<Cell>;
@group(0) @binding(11) var<storage, read_write> second_o: array<OutCell>;

fn rows_of_reader(here: Span, n: u32) -> Rows {
    return rows_of(here.batch, here.head, p.state_heads);
}

fn rows_of_output(here: Span, n: u32) -> Rows {
    return rows_of(here.batch, here.head, p.state_heads);
}

fn row_of_reader(n: u32, row: u32, r: u32) -> vec4f {
    if (n == 0u) {
        return reader_row(row, r, true);
    }
    let at = p.q_offset + row * p.key + r;
    let left = p.key - r;
    let c = cells(at, left);
    return gather(at, left, second_q[c.x], second_q[c.y], second_q[c.z], second_q[c.w]);
}

fn put_output(n: u32, row: u32, column: u32, x: vec4f) {
    if (n == 0u) {
        put_o(row, column, x);
    } else {
        let at = p.o_offset + row * p.value + column;
        second_o[at >> PART_SHIFT] = out_part(x, 0u);
        if (!WHOLE) {
            for (var i = 1u; i < min(PARTS, p.value - column); i++) {
                second_o[(at + i) >> PART_SHIFT] = out_part(x, i);
            }
        }
    }
}

fn finished(n: u32, y: vec4f, den: f32) -> vec4f {
    return select(-1.0, p.scale, n == 0u) * y;
}

fn owns(n: u32) -> bool {
    return n == 0u;
}

fn flow_set(n: u32) -> u32 {
    return 0u;
}
