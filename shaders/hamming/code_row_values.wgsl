// An item's row: its value and 1.
//
// 0 rows: array<f32>, rows[rows_offset + n*value + c]
@group(0) @binding(0) var<storage, read> rows: array<f32>;

fn row(n: u32, column: u32) -> f32 {
    if (column < p.value) {
        return rows[p.rows_offset + n * p.value + column];
    }
    return 1.0;
}
