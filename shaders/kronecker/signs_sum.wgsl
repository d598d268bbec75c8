// The transpose of random signs with padding, block after block:
//
//   x[o, i, c] = scale sum_b s(b period + i) y[o, b, i, c]      for i < `len_out`
//
// 0 y: array<f32>, y[y_offset + ((o*blocks + b)*len_in + i)*inner + c]      1 x: array<f32>, x[x_offset + (o*len_out + i)*inner + c]
struct Params {
    key_low: u32,
    key_high: u32,
    y_offset: u32,
    x_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    len_in: u32,
    len_out: u32,
    period: u32,
    blocks: u32,
    inner: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let c = n % p.inner;
        let i = n / p.inner % p.len_out;
        let o = p.first_row + n / p.inner / p.len_out;
        var sum = 0.0;
        for (var b = 0u; b < p.blocks; b++) {
            let sign = random_sign(vec2u(p.key_low, p.key_high), b * p.period + i);
            sum += sign * y[p.y_offset + ((o * p.blocks + b) * p.len_in + i) * p.inner + c];
        }
        x[p.x_offset + p.first_row * p.len_out * p.inner + n] = p.scale * sum;
    }
}
