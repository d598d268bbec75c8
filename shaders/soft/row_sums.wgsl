// Row sums of P with its ridge. One invocation a row.
//
// 0 matrix: array<f32>, as `gram` leaves it          1 rows: array<f32>, rows[head*r_stride + a]
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let e = group_index(group, grid) * 256u + lid;
    let head = e / p.landmarks;
    if (head < p.heads) {
        let a = e % p.landmarks;
        var sum = p.ridge;
        for (var b = 0u; b < p.landmarks; b++) {
            sum += matrix[head * p.p_stride + a * p.landmarks + b];
        }
        rows[head * p.r_stride + a] = sum;
    }
}
