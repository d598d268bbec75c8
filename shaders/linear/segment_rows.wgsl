// A sum of log decays for each segment and row of the state.
//
// 1 totals: array<f32>, totals[segment * rows + row]
@group(0) @binding(1) var<storage, read> totals: array<f32>;

fn segment_total(segment: u32, row: u32, column: u32, left: u32) -> vec4f {
    return vec4f(totals[segment * p.rows + row]);
}
