// Gradients: the sum of an owner's rows, in order, after what is there with `accumulate`.
//
// 0 parts: array<vec4f>, as tensor_grad writes them        1 out: array<f32>, out[out_offset + row*width + c]
@group(0) @binding(0) var<storage, read> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let here = target_of(p.first + group_index(group, grid) * 64u + lane);
    if (here.live) {
        var sum = vec4f();
        for (var n = 0u; n < p.parts; n++) {
            sum += parts[here.from_row + n * p.block + here.chunk];
        }
        for (var n = 0u; n < here.left; n++) {
            let at = here.into + n;
            if (p.accumulate == 1u) {
                out[at] += sum[n];
            } else {
                out[at] = sum[n];
            }
        }
    }
}
