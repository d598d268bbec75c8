// Nobody asks for flows.
const FLOWS: bool = false;
alias Flow = f32;

fn flow_term(row: u32, column: u32, live: bool, own: bool, b: vec4f, y: vec4f) -> Flow {
    return 0.0;
}

fn put_flows(here: Span, n: u32, lane: u32, slice: u32, anchor: u32, count: u32, flows: ptr<function, array<Flow, FLOW_SETS * TOKENS>>) {}
