// What the feature kernels that keep a row in registers share. LANES invocations share a row of at most 4*LANES*CELLS columns;
// a workgroup has 64 / LANES rows. A map says which reductions over the row it needs (MOST, SUMS, ALONG, FIRST) and how
// many HALVES its features have.
struct Pair {
    a: vec4f,
    b: vec4f,
}

var<workgroup> pairs: array<vec2f, 64>;

// Which of the columns from `column` on exist.
fn present(column: u32) -> vec4<bool> {
    return vec4u(column) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.key);
}

// Leaves the largest of the pairs of a row, each component by itself, with its first lane.
fn reduce_largest(lid: u32) {
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        workgroupBarrier();
        if (lid % LANES < n) {
            pairs[lid] = max(pairs[lid], pairs[lid + n]);
        }
    }
    workgroupBarrier();
}

// Leaves the sum of the pairs of a row with its first lane.
fn reduce_sum(lid: u32) {
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        workgroupBarrier();
        if (lid % LANES < n) {
            pairs[lid] += pairs[lid + n];
        }
    }
    workgroupBarrier();
}

fn largest(v: vec4f) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
