// Flows into or out of a token, per column: outputs without the token's own term, times the row that the output is the gradient
// of; for the second reader that is its source b.
//
// 8 along: array<vec4f>, like o        9 flow: array<vec4f>, like o
const FLOWS: bool = true;
alias Flow = vec4f;
@group(0) @binding(8) var<storage, read> along: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> flow: array<vec4f>;

fn flow_term(row: u32, column: u32, live: bool, own: bool, b: vec4f, y: vec4f) -> Flow {
    var x = b;
    if (own) {
        x = along[(p.o_offset + row * p.value + select(0u, column, live)) / 4u];
    }
    return x * y;
}

fn put_flows(here: Span, n: u32, lane: u32, slice: u32, anchor: u32, count: u32, flows: ptr<function, array<Flow, FLOW_SETS * TOKENS>>) {
    let column = (slice * LANES + lane) * 4u;
    for (var t = 0u; t < TOKENS; t++) {
        if (t < count && column < p.value) {
            let row = row_of(rows_of_output(here, n), token_of(anchor, t));
            flow[(p.o_offset + row * p.value + column) / 4u] = (*flows)[n * TOKENS + t];
        }
    }
}
