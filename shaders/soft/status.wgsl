// What the solver reached: iterations, the larger relative residual of the parts, defect. One invocation a head.
//
// 0 norms: array<f32>, as `residual` leaves them          1 info: array<f32>, info[head*INFO + 0, 1]
// 2 status: array<f32>, status[out_offset + 4*(first_head + head) + 0 .. 4]
@group(0) @binding(0) var<storage, read> norms: array<f32>;
@group(0) @binding(1) var<storage, read> info: array<f32>;
@group(0) @binding(2) var<storage, read_write> status: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let head = group_index(group, grid) * 256u + lid;
    if (head < p.heads) {
        var residual = 0.0;
        for (var part = 0u; part < p.parts; part++) {
            var sum = vec2f();
            for (var block = 0u; block < p.blocks; block++) {
                let at = head * p.norm_stride + 2u * (part * p.blocks + block);
                sum += vec2f(norms[at], norms[at + 1u]);
            }
            residual = max(residual, select(0.0, sqrt(sum.x / sum.y), sum.y > 0.0));
        }
        let at = p.out_offset + 4u * (p.first_head + head);
        status[at] = info[head * INFO];
        status[at + 1u] = residual;
        status[at + 2u] = info[head * INFO + 1u];
        status[at + 3u] = 0.0;
    }
}
