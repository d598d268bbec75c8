// t = W ∘ x, for rows of x.
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> t: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    // A missing cell may hold anything.
    t[i] = select(0.0, weights[e] * x[i], weights[e] > 0.0);
    return 0.0;
}
