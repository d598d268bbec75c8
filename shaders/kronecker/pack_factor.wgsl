// A factor as fused passes read it: rows of whole vectors, those past the last column zero.
//
// 0 factor: array<f32>, F[t, j] at f_offset + set*f_batch + t*f_t + j*f_j        1 packed: array<vec4f>, (set*block + base)/4 + t*quads + j/4
struct Params {
    p: u32,
    q: u32,
    f_offset: u32,
    f_t: u32,
    f_j: u32,
    f_batch: u32,
    sets: u32,
    block: u32,
    base: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let i = index * 64u + lane;
    let quads = (p.q + 3u) / 4u;
    let row = i / quads;
    if (index < p.groups && row < p.sets * p.p) {
        let own = row / p.p;
        let t = row % p.p;
        let first = 4u * (i % quads);
        var entries = vec4f();
        for (var c = 0u; c < 4u; c++) {
            if (first + c < p.q) {
                entries[c] = factor[p.f_offset + own * p.f_batch + t * p.f_t + (first + c) * p.f_j];
            }
        }
        packed[(own * p.block + p.base) / 4u + t * quads + i % quads] = entries;
    }
}
