// Random signs along an axis, which is padded with zeros or cut on the way, `blocks` times over:
//
//   y[o, b, i, c] = scale s(b period + i) x[o, i, c]      0 from i = `len_in` on
//
// 0 x: array<f32>, x[x_offset + (o*len_in + i)*inner + c]      1 y: array<f32>, y[y_offset + ((o*blocks + b)*len_out + i)*inner + c]
struct Params {
    key_low: u32,
    key_high: u32,
    x_offset: u32,
    y_offset: u32,
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

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let c = n % p.inner;
        let i = n / p.inner % p.len_out;
        let block = n / p.inner / p.len_out;
        let o = p.first_row + block / p.blocks;
        var value = 0.0;
        if (i < p.len_in) {
            let sign = random_sign(vec2u(p.key_low, p.key_high), block % p.blocks * p.period + i);
            value = p.scale * sign * x[p.x_offset + (o * p.len_in + i) * p.inner + c];
        }
        y[p.y_offset + p.first_row * p.blocks * p.len_out * p.inner + n] = value;
    }
}
