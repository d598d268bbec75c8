// A tensor of readers and one of outputs, with GROUP heads a state.
const TWO_READERS: bool = false;
const FLOW_SETS: u32 = GROUP;

fn rows_of_reader(here: Span, n: u32) -> Rows {
    let head = shared_head(here.head * GROUP + n, p.state_heads * GROUP, p.q_heads);
    return rows_of(here.batch, head, p.q_heads);
}

fn rows_of_output(here: Span, n: u32) -> Rows {
    return rows_of(here.batch, here.head * GROUP + n, p.state_heads * GROUP);
}

fn row_of_reader(n: u32, row: u32, r: u32) -> vec4f {
    return reader_row(row, r, true);
}

fn put_output(n: u32, row: u32, column: u32, x: vec4f) {
    put_o(row, column, x);
}

fn finished(n: u32, y: vec4f, den: f32) -> vec4f {
    return quotient(y, den);
}

// Whether a reader sees its own token.
fn owns(n: u32) -> bool {
    return true;
}

fn flow_set(n: u32) -> u32 {
    return n;
}
