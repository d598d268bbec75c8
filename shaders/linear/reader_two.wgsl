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
    return widen(second_q[(p.q_offset + row * p.key + r) / 4u]);
}

fn put_output(n: u32, row: u32, column: u32, x: vec4f) {
    if (n == 0u) {
        put_o(row, column, x);
    } else {
        second_o[(p.o_offset + row * p.value + column) / 4u] = out_part(x, 0u);
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
