// Where the items of each block and digit go: before them are those of lesser digits and those of equal ones in earlier blocks.
//
// 0 counts: array<u32>, counts[(list*blocks + block)*bins + digit], replaced by the first place
@group(0) @binding(0) var<storage, read_write> counts: array<u32>;

const LANES: u32 = 256u;
var<workgroup> totals: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let each = (p.bins + LANES - 1u) / LANES;
    let own = min(p.bins, lane * each);
    let end = select(own, min(p.bins, own + each), index < p.groups);
    let start = (p.first + index) * p.blocks * p.bins;
    var total = 0u;
    for (var bin = own; bin < end; bin++) {
        for (var block = 0u; block < p.blocks; block++) {
            total += counts[start + block * p.bins + bin];
        }
    }
    totals[lane] = total;
    workgroupBarrier();
    var place = 0u;
    for (var n = 0u; n < lane; n++) {
        place += totals[n];
    }
    for (var bin = own; bin < end; bin++) {
        for (var block = 0u; block < p.blocks; block++) {
            let at = start + block * p.bins + bin;
            let count = counts[at];
            counts[at] = place;
            place += count;
        }
    }
}
