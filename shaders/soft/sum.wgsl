// Right sides: the partial sums of all segments, in order, times s. One invocation an element of `value` columns.
//
// 0 pieces: array<f32>, pieces[head*piece_stride + (segment*m + a)*value + c]
// 2 right: array<f32>, right[head*y_stride + a*columns + column + c]
@group(0) @binding(0) var<storage, read> pieces: array<f32>;
@group(0) @binding(2) var<storage, read_write> right: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let size = p.landmarks * p.value;
    let e = group_index(group, grid) * 256u + lid;
    let head = e / size;
    if (head < p.heads) {
        let at = e % size;
        let a = at / p.value;
        var sum = 0.0;
        for (var segment = 0u; segment < p.segments; segment++) {
            sum += pieces[head * p.piece_stride + segment * size + at];
        }
        right[head * p.y_stride + a * p.columns + p.column + at % p.value] = row_scale(head, a) * sum;
    }
}
