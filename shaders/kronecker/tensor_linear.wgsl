// States of parts of heads: S[x, y] = sum over the part's rows of X[row, x] Y[row, y].
//
// 0 x: array<vec4f>, x[x_offset + (head*T + t)*inner/4 + i]        1 y: array<vec4f>, y[y_offset + (head*T + t)*outer/4 + q]
// 2 out: array<vec4f>, out[out_offset + ((head*parts + part)*inner + i)*quads + q - quad]
// A lane owns 8 rows and 8 columns of a state.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> y: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        sum(item);
    }
}

fn sum(item: u32) {
    let pairs = p.quads / 2u;
    let blocks = p.inner / 8u;
    let pair = item % pairs;
    let block = item / pairs % blocks;
    let part = item / (pairs * blocks) % p.parts;
    let head = item / (pairs * blocks * p.parts);
    var low: array<vec4f, 8>;
    var high: array<vec4f, 8>;
    for (var k = 0u; k < 8u; k++) {
        low[k] = vec4f();
        high[k] = vec4f();
    }
    for (var t = part * p.span; t < min((part + 1u) * p.span, p.tokens); t++) {
        let row = head * p.tokens + t;
        let x_at = p.x_offset + row * (p.inner / 4u) + 2u * block;
        let y_at = p.y_offset + row * (p.outer / 4u) + p.quad + 2u * pair;
        let a = x[x_at];
        let b = x[x_at + 1u];
        let c = y[y_at];
        let d = y[y_at + 1u];
        for (var k = 0u; k < 4u; k++) {
            low[k] += a[k] * c;
            high[k] += a[k] * d;
            low[k + 4u] += b[k] * c;
            high[k + 4u] += b[k] * d;
        }
    }
    let at = p.out_offset + ((head * p.parts + part) * p.inner + 8u * block) * p.quads + 2u * pair;
    for (var k = 0u; k < 8u; k++) {
        out[at + k * p.quads] = low[k];
        out[at + k * p.quads + 1u] = high[k];
    }
}
