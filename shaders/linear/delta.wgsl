// The delta rule: what is added is beta times what the state misses of the value.
//
// 6 beta: array<f32>, beta[beta_offset + row of the keys]
const DELTA: bool = true;
const NORMALIZE: bool = false;
@group(0) @binding(6) var<storage, read> beta: array<f32>;

fn beta_of(row: u32) -> f32 {
    return beta[p.beta_offset + row];
}

fn z_start(at: u32, left: u32) -> vec4f {
    return vec4f();
}

fn put_z(at: u32, left: u32, x: vec4f) {}
