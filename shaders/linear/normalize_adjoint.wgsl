// Through the division by the normaliser, with y the numerators and, behind them, the denominator without eps:
//
//   den = y_V + eps        dn = do / den        dd = -(y . do) / den^2        0 where den is exactly 0
//
// 0 y: array<vec4f>, y[row * (vecs + 1) + c]        1 grad: array<vec4f>, grad[row * vecs + c]
// 2 dn: array<vec4f>, dn[row * (vecs + 1) + c], dd behind
struct Params {
    rows: u32,
    vecs: u32,
    groups: u32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<vec4f>;
@group(0) @binding(1) var<storage, read> grad: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dn: array<vec4f>;

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let row = index * ROWS + local.y;
        let at = min(row, p.rows - 1u);
        let den = y[at * (p.vecs + 1u) + p.vecs].x + p.eps;
        let inverse = select(1.0 / den, 0.0, den == 0.0);
        var sum = 0.0;
        for (var c = local.x; c < p.vecs; c += LANES) {
            sum += dot(inverse * y[at * (p.vecs + 1u) + c], inverse * grad[at * p.vecs + c]);
        }
        let all = row_sum(local, sum);
        if (row < p.rows) {
            for (var c = local.x; c <= p.vecs; c += LANES) {
                let through = inverse * grad[at * p.vecs + min(c, p.vecs - 1u)];
                dn[at * (p.vecs + 1u) + c] = select(vec4f(-all, 0.0, 0.0, 0.0), through, c < p.vecs);
            }
        }
    }
}
