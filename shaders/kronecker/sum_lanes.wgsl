// The sum over the 64 invocations of a workgroup, by halves: in the first word for all of them.
var<workgroup> sums: array<f32, 64>;

fn sum_lanes(x: f32, lane: u32) {
    sums[lane] = x;
    for (var half = 32u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();
}
