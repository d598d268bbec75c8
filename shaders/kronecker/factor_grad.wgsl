// The gradient of a factor: F[i, j] = alpha sum_(l, r) x[l, i, r] g[l, j, r]. A workgroup has a tile of 32 x 32 and a part of the
// columns (l, r); an invocation has 4 x 4.
//
// 0 x: array<f32>, x[x_offset + (l*P + i)*R + r]        1 g: array<f32>, g[g_offset + (l*Q + j)*R + r]
// 2 sums: array<f32>, sums[(set*parts + part)*block + i*i_stride + j*j_stride]
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

// Columns at a time; rows of a tile are padded, because their neighbours are written apart.
const STEP: u32 = 16u;
const ROW: u32 = 9u;
var<workgroup> xs: array<vec4f, STEP * ROW>;
var<workgroup> gs: array<vec4f, STEP * ROW>;

// Four items of a column from item i on.
fn place(column: u32, items: u32) -> u32 {
    return column / p.r * items * p.r + column % p.r;
}

fn load(column: u32, i: u32, j: u32, live: bool, quad: u32, row: u32) {
    let x_first = p.x_offset + place(column, p.p);
    let g_first = p.g_offset + place(column, p.q);
    var a = vec4f();
    var b = vec4f();
    for (var c = 0u; c < 4u; c++) {
        if (live && i + c < p.p) {
            a[c] = x[x_first + (i + c) * p.r];
        }
        if (live && j + c < p.q) {
            b[c] = g[g_first + (j + c) * p.r];
        }
    }
    xs[row * ROW + quad] = a;
    gs[row * ROW + quad] = b;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        multiply(p.first + index, lid);
    }
}

fn multiply(index: u32, lid: u32) {
    let across = (p.q + 31u) / 32u;
    let tiles = across * ((p.p + 31u) / 32u);
    let part = part_of(index / tiles);
    let first_i = 32u * (index % tiles / across);
    let first_j = 32u * (index % tiles % across);
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var first = part.first; first < part.last; first += STEP) {
        for (var n = 0u; n < 2u; n++) {
            // Neighbouring invocations read neighbouring words: columns where r has several, else items.
            let at = lid + 64u * n;
            let row = select(at / 8u, at % STEP, COLUMNS);
            let quad = select(at % 8u, at / STEP, COLUMNS);
            let live = first + row < part.last;
            let column = part.group * p.set_columns + select(part.first, first + row, live);
            load(column, first_i + 4u * quad, first_j + 4u * quad, live, quad, row);
        }
        workgroupBarrier();
        for (var c = 0u; c < STEP; c++) {
            let a = xs[c * ROW + lid / 8u];
            let b = gs[c * ROW + lid % 8u];
            sum0 = fma(vec4f(a.x), b, sum0);
            sum1 = fma(vec4f(a.y), b, sum1);
            sum2 = fma(vec4f(a.z), b, sum2);
            sum3 = fma(vec4f(a.w), b, sum3);
        }
        workgroupBarrier();
    }
    let i = first_i + 4u * (lid / 8u);
    let j = first_j + 4u * (lid % 8u);
    keep(part.sums, i, j, sum0);
    keep(part.sums, i + 1u, j, sum1);
    keep(part.sums, i + 2u, j, sum2);
    keep(part.sums, i + 3u, j, sum3);
}

fn keep(base: u32, i: u32, j: u32, sum: vec4f) {
    for (var c = 0u; c < 4u; c++) {
        if (i < p.p && j + c < p.q) {
            sums[base + i * p.i_stride + (j + c) * p.j_stride] = p.alpha * sum[c];
        }
    }
}
