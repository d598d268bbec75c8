// q = p + v Dᵀ(s), v in `gain`.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> direction: array<f32>;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    q[i] = direction[i] + p.gain * derivative(e, -1.0);
    return 0.0;
}
