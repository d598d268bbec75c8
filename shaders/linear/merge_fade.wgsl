// The sum of log decays that goes with an element. Below -200 the factor is 0 in f32.
@group(0) @binding(2) var<storage, read> a: array<f32>;

fn total_of(at: u32) -> f32 {
    return max(a[p.a_offset + (p.phase + at) / p.per], -200.0);
}
