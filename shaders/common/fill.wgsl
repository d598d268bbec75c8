// Fills words with a value.
//
// 0 filled: array<u32>
struct Params {
    words: u32,
    groups: u32,
    value: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> filled: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        for (var n = 0u; n < 16u; n++) {
            let at = (index * 16u + n) * 64u + lane;
            if (at < p.words) {
                filled[at] = p.value;
            }
        }
    }
}
