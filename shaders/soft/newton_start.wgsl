// Start of the Newton-Raphson iteration: V = alpha P, alpha = 1.8 / (largest row sum of P)^2. One workgroup a head.
//
// 0 matrix: array<f32>, P without ridge          1 rows: array<f32>, as `row_sums` leaves them
// 2 inverse: array<f32>, inverse[head*p_stride + a*m + b]          3 info: array<f32>, info[head*INFO + 0 .. 4]
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read_write> inverse: array<f32>;
@group(0) @binding(3) var<storage, read_write> info: array<f32>;

var<workgroup> largest: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let head = group_index(group, grid);
    if (head < p.groups) {
        start(head, lid);
    }
}

fn start(head: u32, lid: u32) {
    let m = p.landmarks;
    var most = 0.0;
    for (var a = lid; a < m; a += 256u) {
        most = max(most, rows[head * p.r_stride + a]);
    }
    largest[lid] = most;
    workgroupBarrier();
    for (var i = 0u; i < min(m, 256u); i++) {
        most = max(most, largest[i]);
    }
    let alpha = 1.8 / (most * most);
    for (var e = lid; e < m * m; e += 256u) {
        inverse[head * p.p_stride + e] = alpha * (matrix[head * p.p_stride + e] + select(0.0, p.ridge, e / m == e % m));
    }
    if (lid == 0u) {
        info[head * INFO] = 0.0;
        info[head * INFO + 1u] = 1e30;
        info[head * INFO + 2u] = 0.0;
        info[head * INFO + 3u] = 1e30;
    }
}
