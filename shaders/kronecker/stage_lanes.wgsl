// One axis of x multiplied by a factor, for software adapters: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r].
//
// A workgroup is one subgroup; a lane owns SETS times four columns (l, r) and OUTPUTS j of each. Rows of F are read four entries a lane and
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
    let tiles = (p.set_columns + 4u * SETS * LANES - 1u) / (4u * SETS * LANES);
    let group = index / blocks / tiles;
    let column = 4u * (SETS * LANES * (index / blocks % tiles) + lane);
    var here: array<Columns, SETS>;
    for (var s = 0u; s < SETS; s++) {
        here[s] = columns(group * p.set_columns, column + 4u * LANES * s);
    }
    let own = p.f_offset + (p.f_set + group) * p.f_batch;
    clear();
    for (var t = 0u; t < p.p; t += 4u) {
        var a: array<vec4f, SETS>;
        var b: array<vec4f, SETS>;
        var c: array<vec4f, SETS>;
        var d: array<vec4f, SETS>;
        for (var s = 0u; s < SETS; s++) {
            let x = fetch(here[s], t);
            a[s] = x.a;
            b[s] = x.b;
            c[s] = x.c;
            d[s] = x.d;
        }
        add(a, held(own, t, j, lane));
        add(b, held(own, t + 1u, j, lane));
        add(c, held(own, t + 2u, j, lane));
        add(d, held(own, t + 3u, j, lane));
    }
    put_quad(here, j, 0u);
    put_quad(here, j, 1u);
    if (QUADS > 2u) {
        put_quad(here, j, 2u);
        put_quad(here, j, 3u);
    }
    if (QUADS > 4u) {
        put_quad(here, j, 4u);
        put_quad(here, j, 5u);
        put_quad(here, j, 6u);
        put_quad(here, j, 7u);
    }
}

fn put_quad(here: array<Columns, SETS>, j: u32, n: u32) {
    if (j + 4u * n < p.q) {
        for (var s = 0u; s < SETS; s++) {
            put(here[s], j + 4u * n, Block(sum[n][s][0], sum[n][s][1], sum[n][s][2], sum[n][s][3]));
        }
    }
}
