// An item's row: its value and 1.
//
// 0 rows: array<f32>, rows[rows_offset + n*value + c]
@group(0) @binding(0) var<storage, read> rows: array<f32>;

fn row(n: u32, column: u32) -> f32 {
    let x = rows[p.rows_offset + n * p.value + min(column, p.value - 1u)];
    return select(1.0, x, column < p.value);
}
