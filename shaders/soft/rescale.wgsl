// Solutions times s, in place. One invocation an element.
//
// 2 y: array<f32>, y[head*y_stride + a*columns + c]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let size = p.landmarks * p.columns;
    let e = group_index(group, grid) * 256u + lid;
    let head = e / size;
    if (head < p.heads) {
        let at = e % size;
        y[head * p.y_stride + at] *= row_scale(head, at / p.columns);
    }
}
