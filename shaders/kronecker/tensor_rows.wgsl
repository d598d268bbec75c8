// What the gradients need of each query: its lse in units of log 2, and dO · o.
//
// 0 o: array<Cell>, o[o_offset + query*V + c]        1 grad_o: likewise        2 lse: array<f32>, lse[lse_offset + query]
// 3 rows: array<vec2f>, rows[rows_offset + query]
struct Params {
    value: u32,
    o_offset: u32,
    grad_offset: u32,
    lse_offset: u32,
    rows_offset: u32,
    first: u32,
    end: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> o: array<Cell>;
@group(0) @binding(1) var<storage, read> grad_o: array<Cell>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<vec2f>;

const LOG2E: f32 = 1.4426950408889634;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = p.first + group_index(group, grid) * 64u + lane;
    if (row < p.end) {
        var sum = vec4f();
        for (var c = 0u; c < p.value; c += 4u) {
            let left = p.value - c;
            let at = vec2u(p.o_offset, p.grad_offset) + vec2u(row * p.value + c);
            let from_o = cells(at.x, left);
            let from_grad = cells(at.y, left);
            let value = gather(at.x, left, o[from_o.x], o[from_o.y], o[from_o.z], o[from_o.w]);
            let grad = gather(at.y, left, grad_o[from_grad.x], grad_o[from_grad.y], grad_o[from_grad.z], grad_o[from_grad.w]);
            sum = fma(value, grad, sum);
        }
        // Of a query without keys nothing is read.
        rows[p.rows_offset + row] = vec2f(LOG2E * max(lse[p.lse_offset + row], -1e30), sum.x + sum.y + sum.z + sum.w);
    }
}
