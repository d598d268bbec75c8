// The scalars of conjugate gradients, from partial sums in a fixed order; a workgroup a row. STAGE 0: the start, 1: the curvature
// of a direction, 2: after a step. A row that converged or failed keeps what it has.
//
// 0 sums: array<f32>, sums[row*parts + part]        1 scalars: array<f32>, scalars[row*8 + n], see `cg`
struct Params {
    rows: u32,
    parts: u32,
    first: u32,
    tolerance: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> sums_of_parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> scalars: array<f32>;

const RUNNING: f32 = 0.0;
const CONVERGED: f32 = 1.0;
const FAILED: f32 = 2.0;

// Not NaN, not infinite.
fn usable(x: f32) -> bool {
    return x >= 0.0 && x < 3.0e38;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let own = group_index(group, grid);
    let row = p.first + own;
    var sum = 0.0;
    if (own < p.rows) {
        for (var part = lane; part < p.parts; part += 64u) {
            sum += sums_of_parts[row * p.parts + part];
        }
    }
    sum_lanes(sum, lane);
    let total = sums[0];
    if (own < p.rows && lane == 0u) {
        let at = row * 8u;
        if (STAGE == 0u) {
            scalars[at] = total;
            scalars[at + 1u] = p.tolerance * p.tolerance * total;
            scalars[at + 2u] = 0.0;
            scalars[at + 3u] = 0.0;
            scalars[at + 4u] = select(select(FAILED, RUNNING, usable(total)), CONVERGED, total == 0.0);
            scalars[at + 5u] = 0.0;
            scalars[at + 6u] = total;
            scalars[at + 7u] = 0.0;
        } else if (scalars[at + 4u] == RUNNING) {
            if (STAGE == 1u) {
                if (usable(total) && total > 0.0) {
                    scalars[at + 2u] = scalars[at] / total;
                    scalars[at + 5u] += 1.0;
                } else {
                    scalars[at + 4u] = FAILED;
                }
            } else {
                scalars[at + 3u] = total / scalars[at];
                scalars[at] = total;
                if (!usable(total)) {
                    scalars[at + 4u] = FAILED;
                } else if (total <= scalars[at + 1u]) {
                    scalars[at + 4u] = CONVERGED;
                }
            }
        }
    }
}
