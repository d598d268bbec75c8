// α ← α + step p, r ← r − step (s + D p) at observed cells, while a row's iterations last.
@group(0) @binding(0) var<storage, read> variances: array<f32>;
@group(0) @binding(1) var<storage, read> direction: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(4) var<storage, read_write> alpha: array<f32>;
@group(0) @binding(5) var<storage, read_write> r: array<f32>;
@group(0) @binding(6) var<storage, read> scalars: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    if (scalars[row * 8u + 4u] == 0.0 && variances[e] >= 0.0) {
        let step = scalars[row * 8u + 2u];
        alpha[i] += step * direction[i];
        r[i] -= step * (s[i] + variances[e] * direction[i]);
    }
    return 0.0;
}
