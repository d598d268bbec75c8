// The largest magnitude of a tensor's finite numbers, level by level, each 64 times shorter than the one before; LAST makes the scale
// of the tensor of it.
//
// 0 x: array<u32>, bits of x[i] where FIRST, else of magnitudes      1 peaks: array<u32>
struct Params {
    len: u32,
    peaks: u32,
    factor: f32,
    unit: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> peaks: array<u32>;

fn magnitude(word: u32) -> u32 {
    if (!FIRST) {
        return word;
    }
    let bits = bitcast<u32>(bitcast<f32>(word) * p.factor) & 0x7fffffffu;
    return select(0u, bits, bits < 0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = group_index(group, grid) * 64u + lane;
    if (n < p.peaks) {
        var peak = 0u;
        for (var k = 0u; k < 64u; k++) {
            let at = n + k * p.peaks;
            if (at < p.len) {
                peak = max(peak, magnitude(x[at]));
            }
        }
        if (LAST) {
            peak = bitcast<u32>(bitcast<f32>(peak) * p.unit);
        }
        peaks[n] = peak;
    }
}
