// A permutation and a diagonal within blocks of an axis, or their transpose:
//
//   y[o, b, j] = g[b, j] x[o, b, π(b, j)]          ADJOINT: y[o, b, i] = g[b, j] x[o, b, j] at j = π⁻¹(b, i)
//
// 0 x: array<f32>, x[x_offset + o*width + b*block + j]      1 gauss: array<f32>, gauss[b*block + j]
// 2 places: array<u32>, π or π⁻¹ at b*block + j             3 y: array<f32>, as x
struct Params {
    x_offset: u32,
    y_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    width: u32,
    block: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gauss: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let at = n % p.width;
        let row = (p.first_row + n / p.width) * p.width;
        // Blocks are powers of two.
        let other = (at & ~(p.block - 1u)) + places[at];
        y[p.y_offset + row + at] = gauss[select(at, other, ADJOINT)] * x[p.x_offset + row + other];
    }
}
