// Gradients of projection weights: sums of dy x^T, and of dy for the bias, over a segment of the rows of a set. A workgroup
// owns 64 x 64 elements and walks the rows in slabs of 32; an invocation owns 4 x 4.
//
// 0 x: `x_stored`        1 dy: array<StateCell>, dy[dy_offset + row*K + i]
// 2 sums: array<f32>, sums[(set*set_segments + segment)*K*(K+1) + i*K + j], then K sums for the bias
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    first_set: u32,
    span: u32,
    stride: u32,
    step: u32,
    segments: u32,
    segment_rows: u32,
    first_segment: u32,
    set_segments: u32,
    groups: u32,
    x_offset: u32,
    dy_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> dy: array<StateCell>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> x_tile: array<vec4f, 512>;
var<workgroup> dy_tile: array<vec4f, 512>;

fn load_dy(row: u32, i: u32, live: bool) -> vec4f {
    let at = p.dy_offset + select(p.first_row * p.key, row * p.key + i, live);
    let left = select(1u, p.key - i, live);
    let c = state_cells(at, left);
    return select(vec4f(), gather_state(left, dy[c.x], dy[c.y], dy[c.z], dy[c.w]), live);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        tile(index, lid);
    }
}

fn tile(index: u32, lid: u32) {
    let tiles = (p.key + 63u) / 64u;
    let first_j = index % tiles * 64u;
    let first_i = index / tiles % tiles * 64u;
    let segment = index / (tiles * tiles) % p.segments;
    let head = index / (tiles * tiles) / p.segments;
    let begin = segment * p.segment_rows;
    let end = min(begin + p.segment_rows, p.rows);
    let across = lid % 16u;
    let down = lid / 16u;
    var w0 = vec4f();
    var w1 = vec4f();
    var w2 = vec4f();
    var w3 = vec4f();
    var b = vec4f();
    for (var slab = begin; slab < end; slab += 32u) {
        for (var i = 0u; i < 2u; i++) {
            let n = slab + 16u * i + down;
            let row = head_row(head, n);
            x_tile[256u * i + lid] = load_x(row, first_j + 4u * across, n < end && first_j + 4u * across < p.key);
            dy_tile[256u * i + lid] = load_dy(row, first_i + 4u * across, n < end && first_i + 4u * across < p.key);
        }
        workgroupBarrier();
        for (var i = 0u; i < 32u; i++) {
            let d = dy_tile[i * 16u + down];
            let v = x_tile[i * 16u + across];
            w0 = fma(vec4f(d.x), v, w0);
            w1 = fma(vec4f(d.y), v, w1);
            w2 = fma(vec4f(d.z), v, w2);
            w3 = fma(vec4f(d.w), v, w3);
            b += d;
        }
        workgroupBarrier();
    }
    let home = ((p.first_set + head) * p.set_segments + p.first_segment + segment) * p.key * (p.key + 1u);
    let i = first_i + 4u * down;
    let j = first_j + 4u * across;
    put_row(home, i, j, w0);
    put_row(home, i + 1u, j, w1);
    put_row(home, i + 2u, j, w2);
    put_row(home, i + 3u, j, w3);
    if (j == 0u) {
        for (var c = 0u; c < 4u; c++) {
            if (i + c < p.key) {
                sums[home + p.key * p.key + i + c] = b[c];
            }
        }
    }
}

fn put_row(home: u32, i: u32, j: u32, v: vec4f) {
    for (var c = 0u; c < 4u; c++) {
        if (i < p.key && j + c < p.key) {
            sums[home + i * p.key + j + c] = v[c];
        }
    }
}
