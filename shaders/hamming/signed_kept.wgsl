// Rows that an earlier step left.
// 2 rows: array<vec4f>
@group(0) @binding(2) var<storage, read> rows: array<vec4f>;

fn row_of(head: u32, t: u32, q: u32) -> vec4f {
    return rows[(head * p.tokens + t) * columns() + q];
}
