// ‖y − f − D α‖² over observed cells: the residual of what was found, not of the recurrence. Copies α.
@group(0) @binding(0) var<storage, read> variances: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(4) var<storage, read> alpha: array<f32>;
@group(0) @binding(5) var<storage, read_write> answer: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    var x = 0.0;
    if (variances[e] >= 0.0) {
        x = y[i] - f[i] - variances[e] * alpha[i];
    }
    answer[i] = alpha[i];
    return x * x;
}
