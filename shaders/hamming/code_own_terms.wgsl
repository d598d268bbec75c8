// A reader's row: the gradient of its numerators and of its denominator, the latter negated.
//
// 1 own: array<f32>, own[own_offset + n*(value + 1) + c]
@group(0) @binding(1) var<storage, read> own: array<f32>;

fn own_row(n: u32, column: u32) -> f32 {
    return own[p.own_offset + n * (p.value + 1u) + column];
}
