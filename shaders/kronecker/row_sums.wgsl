// Sums over parts of rows, each in a fixed order: out[row, part] = Σ term(row, e) over the part's elements e of the row. A term may
// also change vectors at its element.
//
// 0, 1, 2 and 4 to 6: what a term reads and writes        3 out: array<f32>, out[p.out + row*parts + part]
struct Params {
    width: u32,
    parts: u32,
    turns: u32,
    first_group: u32,
    groups: u32,
    offset: u32,
    out: u32,
    first: u32,
    middle: u32,
    last: u32,
    a: f32,
    shift: f32,
    gain: f32,
    power: f32,
}
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let own = group_index(group, grid);
    let at = p.first_group + own;
    let row = at / p.parts;
    let begin = at % p.parts * (p.turns * 64u) + lane;
    var sum = 0.0;
    if (own < p.groups) {
        for (var turn = 0u; turn < p.turns; turn++) {
            let e = begin + turn * 64u;
            if (e < p.width) {
                sum += term(row * p.width + e + p.offset, e, row);
            }
        }
    }
    sum_lanes(sum, lane);
    let total = sums[0];
    if (own < p.groups && lane == 0u) {
        out[p.out + at] = total;
    }
}
