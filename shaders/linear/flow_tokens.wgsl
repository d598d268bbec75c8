// Flows into or out of a token, summed over the columns of a slice: outputs without the token's own term, times the row that
// the output is the gradient of; for the second reader that is its source b.
//
// 8 along: array<vec4f>, like o        9 flow: array<f32>, flow[output row * slices + slice]
const FLOWS: bool = true;
alias Flow = f32;
@group(0) @binding(8) var<storage, read> along: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> flow: array<f32>;

fn flow_term(row: u32, column: u32, live: bool, own: bool, b: vec4f, y: vec4f) -> Flow {
    var x = b;
    if (own) {
        x = along[(p.o_offset + row * p.value + select(0u, column, live)) / 4u];
    }
    return select(0.0, dot(x, y), live);
}

fn put_flows(here: Span, n: u32, lane: u32, slice: u32, anchor: u32, count: u32, flows: ptr<function, array<Flow, FLOW_SETS * TOKENS>>) {
    var mine: array<f32, HELD>;
    for (var t = 0u; t < TOKENS; t++) {
        let sum = subgroupAdd((*flows)[n * TOKENS + t]);
        for (var i = 0u; i < HELD; i++) {
            mine[i] = select(mine[i], sum, held_token(lane, i) == t);
        }
    }
    for (var i = 0u; i < HELD; i++) {
        if (held_token(lane, i) < count) {
            let row = row_of(rows_of_output(here, n), token_of(anchor, held_token(lane, i)));
            flow[row * p.slices + slice] = mine[i];
        }
    }
}
