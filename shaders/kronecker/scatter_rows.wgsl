// The transpose of drawing rows: every sample is added to the row that it was drawn from, in the samples' order.
//
//   y[i, c] = (y[i, c], with `accumulate`) + scale sum over samples r of row i of x[r, c]
//
// 0 draws: array<u32>, pairs (row, sample) in ascending order, those from `begin` to `stop` at hand
// 1 x: array<f32>, x[r*columns + c]      2 y: array<f32>, y[y_offset + i*columns + c]
struct Params {
    y_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    columns: u32,
    begin: u32,
    stop: u32,
    accumulate: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> draws: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let c = n % p.columns;
        let i = p.first_row + n / p.columns;
        // The first draw of a row that is not before this one.
        var low = p.begin;
        var high = p.stop;
        for (var step = 0u; step < SEARCH; step++) {
            let middle = (low + high) / 2u;
            if (low < high) {
                if (draws[2u * middle] < i) {
                    low = middle + 1u;
                } else {
                    high = middle;
                }
            }
        }
        let at = p.y_offset + i * p.columns + c;
        var sum = 0.0;
        if (p.accumulate == 1u) {
            sum = y[at];
        }
        for (var draw = low; draw < p.stop; draw++) {
            if (draws[2u * draw] != i) {
                break;
            }
            sum += p.scale * x[draws[2u * draw + 1u] * p.columns + c];
        }
        y[at] = sum;
    }
}
