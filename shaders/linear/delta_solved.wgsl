// The delta rule, its triangular systems solved by `delta_prepare`.
//
// 6 solved: array<f32>, row of the token in the walk's chunk by CHUNK: below the diagonal the inverse, on it beta
const DELTA: bool = true;
const NORMALIZE: bool = false;
@group(0) @binding(6) var<storage, read> solved: array<f32>;

fn solution(at: u32) -> f32 {
    return solved[p.beta_offset + at];
}

fn z_start(at: u32, left: u32) -> vec4f {
    return vec4f();
}

fn put_z(at: u32, left: u32, x: vec4f) {}
