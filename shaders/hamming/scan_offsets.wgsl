// Numbers become the sums of all before them, from the sums before each tile of 64; the sum of all comes after the last.
//
// 0 bases: array<u32>, by tile      1 values: array<u32>, p.len + 1      2 total: array<u32>, the sum of all
struct Params {
    len: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> bases: array<u32>;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> total: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let tile = 64u * index + lane;
    if (index < p.groups && 64u * tile < p.len) {
        var sum = bases[tile];
        let end = min(64u * tile + 64u, p.len);
        for (var n = 64u * tile; n < end; n++) {
            let value = values[n];
            values[n] = sum;
            sum = plus(sum, value);
        }
        if (end == p.len) {
            values[end] = sum;
            total[0] = sum;
        }
    }
}
