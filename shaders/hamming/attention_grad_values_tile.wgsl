// Gradients of values on square tiles.
fn products(kv: u32, first_key: u32, unit: u32, first_query: u32, lid: u32, x: ptr<function, array<vec4f, 4>>) {}

fn column_value(s: Span, unit: u32, column: u32, feature: u32) -> vec4f {
    return load_upstream(unit * p.queries + min(column, p.queries - 1u), feature, column < s.q_first + s.q_len);
}
