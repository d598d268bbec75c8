// A sum of log decays for each segment and column of the state.
//
// 1 totals: array<f32>, totals[segment * columns + column]
@group(0) @binding(1) var<storage, read> totals: array<f32>;

fn segment_total(segment: u32, row: u32, column: u32, left: u32) -> vec4f {
    let at = segment * p.columns + column;
    let n = vec4u(at) + min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u));
    return vec4f(totals[n.x], totals[n.y], totals[n.z], totals[n.w]);
}
