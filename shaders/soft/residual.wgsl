// Squared norms of P y - x and of x, over 16 rows and `value` columns: a workgroup a (head, part of the columns, block of rows).
//
// 0 matrix: array<f32>, P without ridge          1 right: array<f32>, x, right[head*y_stride + a*columns + c]
// 2 y: array<f32>, as right          3 norms: array<f32>, norms[head*norm_stride + 2*(part*blocks + block) + 0, 1]
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

var<workgroup> squares: array<vec2f, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        measure(index, lid);
    }
}

fn measure(index: u32, lid: u32) {
    let m = p.landmarks;
    let n = p.columns;
    let head = index / (p.parts * p.blocks);
    let part = (index / p.blocks) % p.parts;
    let i = 16u * (index % p.blocks) + lid / 16u;
    var sum = vec2f();
    if (i < m) {
        for (var c = lid % 16u; c < p.value; c += 16u) {
            let at = head * p.y_stride + part * p.value + c;
            let x = right[at + i * n];
            var rest = fma(p.ridge, y[at + i * n], -x);
            for (var j = 0u; j < m; j++) {
                rest = fma(matrix[head * p.p_stride + i * m + j], y[at + j * n], rest);
            }
            sum += vec2f(rest * rest, x * x);
        }
    }
    squares[lid] = sum;
    workgroupBarrier();
    if (lid == 0u) {
        for (var k = 1u; k < 256u; k++) {
            sum += squares[k];
        }
        let at = head * p.norm_stride + 2u * (index % (p.parts * p.blocks));
        norms[at] = sum.x;
        norms[at + 1u] = sum.y;
    }
}
