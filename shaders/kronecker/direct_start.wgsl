// r = y at observed cells, α = 0, p = 0; for variances d, below 0 at a missing cell.
@group(0) @binding(0) var<storage, read> variances: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> alpha: array<f32>;
@group(0) @binding(5) var<storage, read_write> direction: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    var x = 0.0;
    if (variances[e] >= 0.0) {
        x = y[i];
    }
    r[i] = x;
    alpha[i] = 0.0;
    direction[i] = 0.0;
    return 0.0;
}
