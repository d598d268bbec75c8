// One mode of a tensor summed with the columns of a factor as weights, column t for all that belongs to it:
//
//   out[l, m, (t, k)] = (what is there, with `accumulate`) + sum over j from `begin` to `stop` of y[l, j, m, (t, k)] f[j, t]
//
// TURNED writes (k, t) instead of (t, k).
//
// 0 y: array<f32>, y[y_offset + ((l*length + j)*middle + m)*rank*inner + t*inner + k]      1 f: array<f32>, f[j*rank + t]
// 2 out: array<f32>, out[out_offset + (l*middle + m)*rank*inner + t*inner + k, or k*rank + t]
struct Params {
    y_offset: u32,
    out_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    length: u32,
    middle: u32,
    rank: u32,
    inner: u32,
    begin: u32,
    stop: u32,
    accumulate: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = p.first + group_index(group, grid) * 64u + lane;
    if (n < p.end) {
        let item = p.rank * p.inner;
        let per_row = p.middle * item;
        let l = p.first_row + n / per_row;
        let at = n % per_row;
        let t = at % item / p.inner;
        var place = p.out_offset + l * per_row + at;
        if (TURNED) {
            place = p.out_offset + l * per_row + at - at % item + at % p.inner * p.rank + t;
        }
        var sum = 0.0;
        if (p.accumulate == 1u) {
            sum = out[place];
        }
        let start = p.y_offset + l * p.length * per_row + at;
        for (var j = p.begin; j < p.stop; j++) {
            sum += y[start + j * per_row] * f[j * p.rank + t];
        }
        out[place] = sum;
    }
}
