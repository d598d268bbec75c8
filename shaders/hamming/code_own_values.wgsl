// A reader's row: its value and 1.
//
// 1 own: array<f32>, own[own_offset + n*value + c]
@group(0) @binding(1) var<storage, read> own: array<f32>;

fn own_row(n: u32, column: u32) -> f32 {
    if (column < p.value) {
        return own[p.own_offset + n * p.value + column];
    }
    return 1.0;
}
