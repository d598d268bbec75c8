// From counts by segment to where each segment starts: table[h*columns + s*queries + q] becomes base_q + sums[h*queries + q] + the
// sum over earlier segments. sums become where the next segments go, of a table to come.
//
// 0 bounds: array<u32>, [q]        1 sums: array<u32>        2 table: array<u32>
struct Params {
    bins: u32,
    columns: u32,
    queries: u32,
    rows_offset: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> bounds: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
@group(0) @binding(2) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let n = (p.first + index) * 64u + lid;
    let h = n / p.queries;
    let q = n % p.queries;
    if (index < p.groups && h < p.bins && h < bounds[q]) {
        var place = base(q) + sums[n];
        for (var c = q; c < p.columns; c += p.queries) {
            let count = table[h * p.columns + c];
            table[h * p.columns + c] = place;
            place += count;
        }
        sums[n] = place;
    }
}
