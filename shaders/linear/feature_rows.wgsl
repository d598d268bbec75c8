// What the feature kernels that keep a row in registers share. LANES invocations share a row of at most 4*LANES*CELLS columns;
// a workgroup has 64 / LANES rows.
var<workgroup> pairs: array<vec2f, 64>;

// Which of the columns from `column` on exist.
fn present(column: u32) -> vec4<bool> {
    return vec4u(column) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.key);
}

// A pair becomes the largest of its row's, each component by itself.
fn to_largest(x: ptr<function, vec2f>, lid: u32) {
    pairs[lid] = *x;
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        workgroupBarrier();
        if (lid % LANES < n) {
            pairs[lid] = max(pairs[lid], pairs[lid + n]);
        }
    }
    workgroupBarrier();
    *x = pairs[lid - lid % LANES];
    workgroupBarrier();
}

// A pair becomes the sum of its row's.
fn to_total(x: ptr<function, vec2f>, lid: u32) {
    pairs[lid] = *x;
    for (var n = LANES / 2u; n > 0u; n /= 2u) {
        workgroupBarrier();
        if (lid % LANES < n) {
            pairs[lid] += pairs[lid + n];
        }
    }
    workgroupBarrier();
    *x = pairs[lid - lid % LANES];
    workgroupBarrier();
}

fn largest(v: vec4f) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
