// Sums rows in a fixed order: sum[c] = rows[0, c] + rows[1, c] + ..
//
// 0 rows: array<f32>, rows[n * width + c]        1 sum: array<f32>
struct Params {
    rows: u32,
    width: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> rows: array<f32>;
@group(0) @binding(1) var<storage, read_write> sum: array<f32>;

var<workgroup> partial: array<f32, 64>;

// A workgroup a column.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column = group_index(group, grid);
    if (column < p.width) {
        var mine = 0.0;
        for (var n = lane; n < p.rows; n += 64u) {
            mine += rows[n * p.width + column];
        }
        partial[lane] = mine;
        workgroupBarrier();
        if (lane == 0u) {
            var all = 0.0;
            for (var n = 0u; n < 64u; n++) {
                all += partial[n];
            }
            sum[column] = all;
        }
    }
}
