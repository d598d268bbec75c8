// out = E + sign (A + ridge I) B for every head, A m x m, B and out m x n; E nothing, I, or a matrix. Heads whose solver is
// done keep E where `frozen` asks for it. A workgroup has 32 rows and 32 columns, an invocation 4 columns of a row.
//
// 0 a: array<f32>, a[head*a_stride + i*m + k]          1 b: array<f32>, b[head*b_stride + k*n + j]
// 2 e: array<f32>, e[head*b_stride + i*n + j]          3 info: array<f32>, info[head*64 + 2]: the phase, 2 when done
// 4 product: array<f32>, as e
struct Params {
    m: u32,
    n: u32,
    a_stride: u32,
    b_stride: u32,
    row_tiles: u32,
    column_tiles: u32,
    groups: u32,
    start: u32,
    frozen: u32,
    sign: f32,
    ridge: f32,
}
var<immediate> p: Params;

// Values of `start`: what E is.
const IDENTITY: u32 = 1u;
const GIVEN: u32 = 2u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> e: array<f32>;
@group(0) @binding(3) var<storage, read> info: array<f32>;
@group(0) @binding(4) var<storage, read_write> product: array<f32>;

var<workgroup> left: array<f32, 512>;
var<workgroup> right: array<vec4f, 128>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        multiply(index, lid);
    }
}

fn multiply(index: u32, lid: u32) {
    let head = index / (p.row_tiles * p.column_tiles);
    let first_row = 32u * ((index / p.column_tiles) % p.row_tiles);
    let first_column = 32u * (index % p.column_tiles);
    let row = first_row + lid / 8u;
    let column = first_column + 4u * (lid % 8u);
    var sum = vec4f();
    for (var k = 0u; k < p.m; k += 16u) {
        workgroupBarrier();
        for (var i = lid; i < 512u; i += 256u) {
            let live = first_row + i / 16u < p.m && k + i % 16u < p.m;
            let at = (first_row + i / 16u) * p.m + k + i % 16u;
            let diagonal = select(0.0, p.ridge, first_row + i / 16u == k + i % 16u);
            left[i] = select(0.0, a[head * p.a_stride + select(0u, at, live)] + diagonal, live);
        }
        if (lid < 128u) {
            var x = vec4f();
            for (var c = 0u; c < 4u; c++) {
                let at = first_column + 4u * (lid % 8u) + c;
                let live = k + lid / 8u < p.m && at < p.n;
                x[c] = select(0.0, b[head * p.b_stride + select(0u, (k + lid / 8u) * p.n + at, live)], live);
            }
            right[lid] = x;
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            sum = fma(vec4f(left[(lid / 8u) * 16u + i]), right[i * 8u + lid % 8u], sum);
        }
    }
    let done = p.frozen == 1u && info[head * 64u + 2u] == 2.0;
    for (var c = 0u; c < 4u; c++) {
        if (row < p.m && column + c < p.n) {
            let at = head * p.b_stride + row * p.n + column + c;
            var start = select(0.0, 1.0, p.start == IDENTITY && row == column + c);
            if (p.start == GIVEN) {
                start = e[at];
            }
            product[at] = select(fma(p.sign, sum[c], start), start, done);
        }
    }
}
