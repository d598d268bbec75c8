// α = W ∘ (y − f), for rows of y and f.
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(4) var<storage, read_write> alpha: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    var x = 0.0;
    if (weights[e] > 0.0) {
        x = weights[e] * (y[i] - f[i]);
    }
    alpha[i] = x;
    return x * x;
}
