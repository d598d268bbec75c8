// The gradient of a diagonal factor: d[i] = alpha sum_(l, r) x[l, i, r] g[l, i, r]. An invocation has an i and a part of the
// columns (l, r).
//
// 0 x: array<f32>, x[x_offset + (l*P + i)*R + r]        1 g: array<f32>, g[g_offset + (l*P + i)*R + r]
// 2 sums: array<f32>, sums[(set*parts + part)*block + i]
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let tiles = (p.p + 63u) / 64u;
    let i = 64u * ((p.first + index) % tiles) + lane;
    if (index < p.groups && i < p.p) {
        let part = part_of((p.first + index) / tiles);
        var sum = 0.0;
        for (var c = part.first; c < part.last; c++) {
            let column = part.group * p.set_columns + c;
            let at = (column / p.r * p.p + i) * p.r + column % p.r;
            sum = fma(x[p.x_offset + at], g[p.g_offset + at], sum);
        }
        sums[part.sums + i] = p.alpha * sum;
    }
}
