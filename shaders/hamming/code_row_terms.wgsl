// An item's row: the gradient of its numerators and of its denominator, the latter negated.
//
// 0 rows: array<f32>, rows[rows_offset + n*(value + 1) + c]
@group(0) @binding(0) var<storage, read> rows: array<f32>;

fn row(n: u32, column: u32) -> f32 {
    return rows[p.rows_offset + n * (p.value + 1u) + column];
}
