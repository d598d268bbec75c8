// Rows of another width, weighed: y[o, t] = length(t) x[o, t], and 0 where x has no such element.
//
// 0 x: array<f32>, x[x_offset + o*len_in + t]      2 y: array<f32>, y[y_offset + o*len_out + t]
struct Params {
    x_offset: u32,
    y_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    len_in: u32,
    len_out: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let t = n % p.len_out;
        let o = p.first_row + n / p.len_out;
        var value = 0.0;
        if (t < p.len_in) {
            value = length_of(t) * x[p.x_offset + o * p.len_in + t];
        }
        y[p.y_offset + o * p.len_out + t] = value;
    }
}
