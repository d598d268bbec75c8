// What the gradients need of each row, one row an invocation: what the forward part kept, with the sum of the weights inverted, and
// D_i = dO_i . o_i.
//
// 0 kept: array<vec4u>, as the forward part keeps it         1 o, 2 grad_o: array<Cell>, o[row*V + c]
// 3 rows: array<u32>, rows[5*row] : the distance of the heaviest key, the cut-off, the last index at it, 1 / Z_i and D_i as f32
struct Params {
    value: u32,
    o_offset: u32,
    kept_offset: u32,
    rows_offset: u32,
    first: u32,
    end: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> kept: array<vec4u>;
@group(0) @binding(1) var<storage, read> o: array<Cell>;
@group(0) @binding(2) var<storage, read> grad_o: array<Cell>;
@group(0) @binding(3) var<storage, read_write> rows: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = p.first + group_index(group, grid) * 64u + lane;
    if (row < p.end) {
        var sum = 0.0;
        for (var c = 0u; c < p.value; c += 4u) {
            let at = p.o_offset + row * p.value + c;
            let left = p.value - c;
            let cell = cells(at, left);
            let x = gather(at, left, o[cell.x], o[cell.y], o[cell.z], o[cell.w]);
            let dx = gather(at, left, grad_o[cell.x], grad_o[cell.y], grad_o[cell.z], grad_o[cell.w]);
            sum += dot(x, dx);
        }
        let known = kept[p.kept_offset + row];
        let total = bitcast<f32>(known.w);
        let to = p.rows_offset + 5u * row;
        rows[to] = known.x;
        rows[to + 1u] = known.y;
        rows[to + 2u] = known.z;
        rows[to + 3u] = bitcast<u32>(select(0.0, 1.0 / total, total > 0.0));
        rows[to + 4u] = bitcast<u32>(sum);
    }
}
