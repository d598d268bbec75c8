// The straight-through estimator with a clip, in place: dx_i = dh_i where |x_i - threshold| <= clip, else 0.
//
// 0 x: array<f32>        1 grad: array<f32>, as x
struct Params {
    clip: f32,
    threshold: f32,
    count: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * 64u + lane;
    if (i < p.count) {
        // Not the opposite comparison: a NaN is clipped.
        if (!(abs(x[i] - p.threshold) <= p.clip)) {
            grad[i] = 0.0;
        }
    }
}
