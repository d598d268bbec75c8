// What a segment adds, and what it leaves of what came before: merged = exp(a) first + second, or first + second where
// nothing fades. Elementwise over states, sums of keys or sums of log decays.
//
// 0 first: array<f32>        1 second: array<f32>        2 a: `merge_fade`        3 merged: array<f32>
struct Params {
    elements: u32,
    // Elements that share an a, the first element's place among them, and its a.
    per: u32,
    phase: u32,
    a_offset: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> first: array<f32>;
@group(0) @binding(1) var<storage, read> second: array<f32>;
@group(0) @binding(3) var<storage, read_write> merged: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        for (var n = 0u; n < 4u; n++) {
            let at = (index * 4u + n) * 64u + lane;
            if (at < p.elements) {
                merged[at] = second[at] + faded(fade(vec4f(total_of(at))), vec4f(first[at])).x;
            }
        }
    }
}
