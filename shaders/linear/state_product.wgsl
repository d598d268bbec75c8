// Products of each state's square matrix with what a segment before (or, transposed, after) it carries:
// merged = base + A x, or base + A^T x.
//
// 0 a: array<f32>, a[a_offset + (n * rows + row) * rows + k]        1 x: array<f32>, x[x_offset + (n * rows + k) * columns + column]
// 2 base: `product_base`, like merged        3 merged: array<f32>, merged[merged_offset + (n * rows + row) * columns + column]
struct Params {
    rows: u32,
    columns: u32,
    // The first tile of the first state.
    first_tile: u32,
    a_offset: u32,
    x_offset: u32,
    merged_offset: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> merged: array<f32>;

const TILE: u32 = 16u;

var<workgroup> a_tile: array<f32, 256>;
var<workgroup> x_tile: array<f32, 256>;

// A workgroup a tile of 16 x 16, an invocation an element.
@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let across = (p.columns + TILE - 1u) / TILE;
        let down = (p.rows + TILE - 1u) / TILE;
        let tile = p.first_tile + index;
        let state = tile / (across * down);
        let row = tile / across % down * TILE + local.y;
        let column = tile % across * TILE + local.x;
        var sum = 0.0;
        for (var first = 0u; first < p.rows; first += TILE) {
            // Neighbouring invocations read neighbouring words; transposed, the tile is turned as it is stored.
            let a_row = select(row, first + local.y, TRANSPOSED);
            let a_column = select(first + local.x, row - local.y + local.x, TRANSPOSED);
            let home = select(local.y * TILE + local.x, local.x * TILE + local.y, TRANSPOSED);
            let in_a = a_row < p.rows && a_column < p.rows;
            let in_x = first + local.y < p.rows && column < p.columns;
            let a_at = p.a_offset + (state * p.rows + a_row) * p.rows + a_column;
            let x_at = p.x_offset + (state * p.rows + first + local.y) * p.columns + column;
            a_tile[home] = select(0.0, a[select(p.a_offset, a_at, in_a)], in_a);
            x_tile[local.y * TILE + local.x] = select(0.0, x[select(p.x_offset, x_at, in_x)], in_x);
            workgroupBarrier();
            for (var k = 0u; k < TILE; k++) {
                sum = fma(a_tile[local.y * TILE + k], x_tile[k * TILE + local.x], sum);
            }
            workgroupBarrier();
        }
        if (row < p.rows && column < p.columns) {
            let at = p.merged_offset + (state * p.rows + row) * p.columns + column;
            merged[at] = base_of(at) + sum;
        }
    }
}
