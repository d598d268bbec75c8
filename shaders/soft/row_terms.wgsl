// What reaches the rows of P through s: s_a^2 / 2 sum_c (dY Y1 + Z X)_ac, where right = [X | dY] is scaled by s already and
// y = [Y1 | Z] is not. One invocation a row.
//
// 0 right: array<f32>, right[head*y_stride + a*columns + c]          1 rows, in the part beside this          2 y: array<f32>, as right
// 3 terms: array<f32>, terms[head*r_stride + a]
@group(0) @binding(0) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let e = group_index(group, grid) * 256u + lid;
    let head = e / p.landmarks;
    if (head < p.heads) {
        let a = e % p.landmarks;
        var sum = 0.0;
        for (var c = 0u; c < p.value; c++) {
            let at = head * p.y_stride + a * p.columns + c;
            sum += right[at + p.value] * y[at] + y[at + p.value] * right[at];
        }
        let s = row_scale(head, a);
        terms[head * p.r_stride + a] = 0.5 * s * s * sum;
    }
}
