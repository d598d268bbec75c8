// Zeros for the columns of a table, table[h*columns + c], of the queries that want something: column c is of query c mod queries.
//
// 0 bounds: array<u32>        1 table: array<u32>
struct Params {
    bins: u32,
    columns: u32,
    queries: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> bounds: array<u32>;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let c = index * 64u + lid;
    if (index < p.groups && c < p.columns) {
        // Four a turn: software adapters count turns, and there may be 65,537 bins.
        let end = min(bounds[c % p.queries], p.bins);
        for (var h = 0u; h < end; h += 4u) {
            let last = end - 1u;
            table[h * p.columns + c] = 0u;
            table[min(h + 1u, last) * p.columns + c] = 0u;
            table[min(h + 2u, last) * p.columns + c] = 0u;
            table[min(h + 3u, last) * p.columns + c] = 0u;
        }
    }
}
