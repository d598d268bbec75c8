// Gradients of values on software adapters: columns are rows of the gradient of o.
alias Held = vec4f;

fn hold(row: u32, end: u32, f: u32) -> Held {
    return load_upstream(min(row, p.b_len - 1u), f, row < end);
}

fn column_of(held: Held, n: u32, f: u32) -> vec4f {
    return subgroupShuffle(held, n);
}

fn products(row: u32, column: u32, lane: u32, x: ptr<function, array<vec4f, ROWS * QUADS>>) {}
