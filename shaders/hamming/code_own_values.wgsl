// A reader's row: its value and 1.
//
// 1 own: array<f32>, own[own_offset + n*value + c]
@group(0) @binding(1) var<storage, read> own: array<f32>;

fn own_row(n: u32, column: u32) -> f32 {
    let x = own[p.own_offset + n * p.value + min(column, p.value - 1u)];
    return select(1.0, x, column < p.value);
}
