// Rows times a state: out[row, y] = sum over x of X[row, x] S[x, y].
//
// 0 x: array<vec4f>, x[(head*T + t)*inner/4 + i]        1 state: array<vec4f>, state[(head*inner + i)*outer/4 + q]
// 2 out: array<vec4f>, out[(head*T + t)*outer/4 + q]
// A lane owns 4 rows and 8 columns.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> state: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        multiply(item);
    }
}

fn multiply(item: u32) {
    let stride = p.outer / 4u;
    let pairs = stride / 2u;
    let blocks = (p.tokens + 3u) / 4u;
    let pair = item % pairs;
    let block = item / pairs % blocks;
    let head = item / (pairs * blocks);
    let first = 4u * block;
    var rows: array<u32, 4>;
    var low: array<vec4f, 4>;
    var high: array<vec4f, 4>;
    for (var n = 0u; n < 4u; n++) {
        rows[n] = (head * p.tokens + min(first + n, p.tokens - 1u)) * (p.inner / 4u);
        low[n] = vec4f();
        high[n] = vec4f();
    }
    for (var i = 0u; i < p.inner / 4u; i++) {
        let at = (head * p.inner + 4u * i) * stride + 2u * pair;
        var a: array<vec4f, 4>;
        var b: array<vec4f, 4>;
        for (var k = 0u; k < 4u; k++) {
            a[k] = state[at + k * stride];
            b[k] = state[at + k * stride + 1u];
        }
        for (var n = 0u; n < 4u; n++) {
            let f = x[rows[n] + i];
            low[n] += f.x * a[0] + f.y * a[1] + f.z * a[2] + f.w * a[3];
            high[n] += f.x * b[0] + f.y * b[1] + f.z * b[2] + f.w * b[3];
        }
    }
    for (var n = 0u; n < 4u && first + n < p.tokens; n++) {
        let at = (head * p.tokens + first + n) * stride + 2u * pair;
        out[at] = low[n];
        out[at + 1u] = high[n];
    }
}
