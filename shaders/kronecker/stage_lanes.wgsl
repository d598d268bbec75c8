// One axis of x multiplied by a factor, for software adapters: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r].
//
// A workgroup is one subgroup; a lane owns four columns (l, r) and OUTPUTS j of each. Rows of F are read four entries a lane and
// passed round by shuffles, because a software adapter serves each lane's load by itself.
//
// 0 x, 2 z: see the part of columns        1 factor: see the part of entries
// Four entries of row t from column j on, in as many lanes as a row needs; zero past the last row.
fn held(own: u32, t: u32, j: u32, lane: u32) -> vec4f {
    var f = vec4f();
    if (lane < QUADS && t < p.p) {
        f = entries(own, t, min(j + 4u * lane, p.q - 1u));
    }
    return f;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(p.first + index, lane);
    }
}

// Columns of different sets have different factors; a workgroup has those of one.
fn walk(index: u32, lane: u32) {
    let blocks = (p.q + OUTPUTS - 1u) / OUTPUTS;
    let j = OUTPUTS * (index % blocks);
    let tiles = (p.set_columns + 4u * LANES - 1u) / (4u * LANES);
    let group = index / blocks / tiles;
    let column = 4u * (LANES * (index / blocks % tiles) + lane);
    let here = columns(group * p.set_columns, column);
    let own = p.f_offset + (p.f_set + group) * p.f_batch;
    for (var n = 0u; n < OUTPUTS; n++) {
        sum[n] = vec4f();
    }
    for (var t = 0u; t < p.p; t += 4u) {
        let x = fetch(here, t);
        add(x.a, held(own, t, j, lane));
        add(x.b, held(own, t + 1u, j, lane));
        add(x.c, held(own, t + 2u, j, lane));
        add(x.d, held(own, t + 3u, j, lane));
    }
    for (var n = 0u; n < QUADS; n++) {
        if (j + 4u * n < p.q) {
            put(here, j + 4u * n, Block(sum[4u * n], sum[4u * n + 1u], sum[4u * n + 2u], sum[4u * n + 3u]));
        }
    }
}
