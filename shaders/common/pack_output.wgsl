// Elements computed as f32, to a 16-bit storage type: one invocation a word, so that no two write one word.
//
// 0 wide: array<f32>, wide[i]        1 packed: array<u32>, elements 2i and 2i+1
struct Params {
    elements: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> wide: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let word = group_index(group, grid) * 64u + lane;
    let i = 2u * word;
    if (i < p.elements) {
        let next = select(0.0, wide[min(i + 1u, p.elements - 1u)], i + 1u < p.elements);
        packed[word] = narrow(vec4f(wide[i], next, 0.0, 0.0)).x;
    }
}
