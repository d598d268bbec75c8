// Rows of LANES lanes, 64 invocations in all.
const ROWS: u32 = 64u / LANES;
var<workgroup> partial: array<f32, 64>;

// The sum of a number over the lanes of a row, in order.
fn row_sum(local: vec3u, x: f32) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    partial[local.y * LANES + local.x] = x;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) {
        sum += partial[local.y * LANES + i];
    }
    return sum;
}
