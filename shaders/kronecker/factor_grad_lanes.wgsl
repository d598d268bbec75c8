// The gradient of a factor, for software adapters: F[i, j] = alpha sum_(l, r) x[l, i, r] g[l, j, r].
//
// A workgroup is one subgroup and has a part of the columns (l, r); a lane owns four i and OUTPUTS j of each. g is read four j a lane
// and passed round by shuffles, because a software adapter serves each lane's load by itself.
//
// 0 x, 1 g: see the part of items        2 sums: array<f32>, sums[(set*parts + part)*block + i*i_stride + j*j_stride]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(p.first + index, lane);
    }
}

fn walk(index: u32, lane: u32) {
    let across = (p.q + OUTPUTS - 1u) / OUTPUTS;
    let tiles = across * ((p.p + 4u * LANES - 1u) / (4u * LANES));
    let part = part_of(index / tiles);
    let i = 4u * (LANES * (index % tiles / across) + lane);
    let first_j = OUTPUTS * (index % tiles % across);
    let j = first_j + 4u * lane;
    let base = part.group * p.set_columns;
    clear();
    for (var c = part.first; c < part.last; c += 4u) {
        let live = vec4u(c) + vec4u(0u, 1u, 2u, 3u) < vec4u(part.last);
        let column = vec4u(base) + select(vec4u(c), vec4u(c) + vec4u(0u, 1u, 2u, 3u), live);
        var a = Block();
        var b = Block();
        if (i < p.p) {
            a = x_items(column, i);
        }
        if (lane < QUADS && j < p.q) {
            b = g_items(column, j);
        }
        add(array<vec4f, SETS>(select(vec4f(), a.a, live.x)), select(vec4f(), b.a, live.x));
        add(array<vec4f, SETS>(select(vec4f(), a.b, live.y)), select(vec4f(), b.b, live.y));
        add(array<vec4f, SETS>(select(vec4f(), a.c, live.z)), select(vec4f(), b.c, live.z));
        add(array<vec4f, SETS>(select(vec4f(), a.d, live.w)), select(vec4f(), b.d, live.w));
    }
    for (var n = 0u; n < QUADS; n++) {
        for (var m = 0u; m < 4u; m++) {
            for (var c = 0u; c < 4u; c++) {
                if (i + c < p.p && first_j + 4u * n + m < p.q) {
                    sums[part.sums + (i + c) * p.i_stride + (first_j + 4u * n + m) * p.j_stride] = p.alpha * sum[n][0][m][c];
                }
            }
        }
    }
}
