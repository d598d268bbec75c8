// What reaches the squared distances of landmarks: J = (dP + dP^T) P0 / sqrt(D), dP_ab = -sum_c Z_ac Y1_bc - term_a; P0 has no
// ridge, y = [Y1 | Z] is not scaled by s. One invocation an element.
//
// 0 matrix: array<f32>, P0          1 y: array<f32>, y[head*y_stride + a*columns + c]
// 3 slopes: array<f32>, slopes[head*p_stride + a*m + b]
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> slopes: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let m = p.landmarks;
    let e = group_index(group, grid) * 256u + lid;
    let head = e / (m * m);
    if (head < p.heads) {
        let at = e % (m * m);
        let a = at / m;
        let b = at % m;
        let ya = head * p.y_stride + a * p.columns;
        let yb = head * p.y_stride + b * p.columns;
        var sum = row_term(head, a) + row_term(head, b);
        for (var c = 0u; c < p.value; c++) {
            sum += y[ya + p.value + c] * y[yb + c] + y[yb + p.value + c] * y[ya + c];
        }
        slopes[head * p.p_stride + at] = -2.0 * p.scale * matrix[head * p.p_stride + at] * sum;
    }
}
