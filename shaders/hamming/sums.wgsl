// Sums over segments: sums[h*queries + q] = sum_s table[h*columns + s*queries + q], for queries that want something.
//
// 0 bounds: array<u32>        1 table: array<u32>        2 sums: array<u32>
struct Params {
    bins: u32,
    columns: u32,
    queries: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> bounds: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let n = (p.first + index) * 64u + lid;
    let h = n / p.queries;
    let q = n % p.queries;
    if (index < p.groups && h < p.bins && h < bounds[q]) {
        var sum = 0u;
        for (var c = q; c < p.columns; c += p.queries) {
            sum += table[h * p.columns + c];
        }
        sums[n] = sum;
    }
}
