// Rows of LANES lanes, 64 invocations in all.
const ROWS: u32 = 64u / LANES;
var<workgroup> partial: array<f32, 64>;

// A number becomes its sum over the lanes of a row, in order.
fn sum_row(local: vec3u, x: ptr<function, f32>) {
    if (LANES > 1u) {
        partial[local.y * LANES + local.x] = *x;
        workgroupBarrier();
        *x = 0.0;
        for (var i = 0u; i < LANES; i++) {
            *x += partial[local.y * LANES + i];
        }
    }
}
