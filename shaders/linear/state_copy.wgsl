// States to where a walk starts: padded with zeros, transposed where the value takes the key's place. State n goes to states
// n * ratio and the following, or `once` to the first of them, the others being zero, so that heads that share it count it once.
//
// 0 source: array<f32>, [n, source_rows, source_columns]        1 copied: array<f32>, at copied_offset + n * stride, of rows x columns
// 2 z: array<f32>, `copied_z`, [n, source_rows], the normaliser's column
struct Params {
    states: u32,
    ratio: u32,
    once: u32,
    rows: u32,
    columns: u32,
    source_rows: u32,
    source_columns: u32,
    transposed: u32,
    stride: u32,
    source_offset: u32,
    copied_offset: u32,
    z_offset: u32,
    z_column: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> copied: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        for (var i = 0u; i < 4u; i++) {
            let at = (index * 4u + i) * 64u + lane;
            let state = at / (p.rows * p.columns);
            let place = at % (p.rows * p.columns);
            let row = select(place / p.columns, place % p.columns, p.transposed == 1u);
            let column = select(place % p.columns, place / p.columns, p.transposed == 1u);
            let counts = row < p.source_rows && (p.once == 0u || state % p.ratio == 0u);
            let inside = counts && column < p.source_columns;
            if (state < p.states) {
                let source_row = state / p.ratio * p.source_rows + row;
                let read = p.source_offset + source_row * p.source_columns + column;
                var x = select(0.0, source[select(p.source_offset, read, inside)], inside);
                if (counts && column == p.z_column) {
                    x = z_of(p.z_offset + source_row);
                }
                copied[p.copied_offset + state * p.stride + place] = x;
            }
        }
    }
}
