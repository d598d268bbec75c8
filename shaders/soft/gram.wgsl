// Kernel matrix of the landmarks, without its ridge: exp(-|l_a - l_b|^2 scale). One invocation an element.
//
// 0 l: array<Cell>, l[l_offset + (head*m + a)*width + d]          1 matrix: array<f32>, matrix[head*p_stride + a*m + b]
@group(0) @binding(0) var<storage, read> l: array<Cell>;
@group(0) @binding(1) var<storage, read_write> matrix: array<f32>;

fn load_l(row: u32, channel: u32) -> vec4f {
    let at = p.l_offset + row * p.width + channel;
    let left = p.width - channel;
    let c = cells(at, left);
    return gather(at, left, l[c.x], l[c.y], l[c.z], l[c.w]);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let m = p.landmarks;
    let e = group_index(group, grid) * 256u + lid;
    let head = e / (m * m);
    if (head < p.heads) {
        let at = e % (m * m);
        let first = (p.first_head + head) * m;
        var sum = 0.0;
        for (var channel = 0u; channel < p.width; channel += 4u) {
            let x = load_l(first + at / m, channel) - load_l(first + at % m, channel);
            sum += dot(x, x);
        }
        matrix[head * p.p_stride + at] = exp(-p.scale * sum);
    }
}
