// Outputs from the rows of each query, in order, M the largest m of them:
//
//   o = sum_r 2^(m_r - M) O_r / sum_r 2^(m_r - M) L_r        lse = ln 2 (M + log2 of that sum); 0 and the lowest f32 without keys
//
// 0 parts: array<vec4f>, as tensor_attention writes them        1 o: array<f32>, o[out_offset + query*V + c]
// 2 lse: array<f32>, lse[lse_offset + query]
@group(0) @binding(0) var<storage, read> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> o: array<f32>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;

// Of rows without keys.
const LOWEST: f32 = -0x1.fffffep+127;
const LN2: f32 = 0.6931471805599453;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let here = target_of(p.first + group_index(group, grid) * 64u + lane);
    if (here.live) {
        let state = here.from_row + p.chunks;
        var most = LOWEST;
        for (var n = 0u; n < p.parts; n++) {
            most = max(most, parts[state + n * p.block].y);
        }
        var sum = vec4f();
        var total = 0.0;
        for (var n = 0u; n < p.parts; n++) {
            let own = parts[state + n * p.block];
            let weight = exp2(own.y - most);
            sum = fma(vec4f(weight), parts[here.from_row + n * p.block + here.chunk], sum);
            total = fma(weight, own.x, total);
        }
        let mean = select(vec4f(), sum / total, total > 0.0);
        for (var n = 0u; n < here.left; n++) {
            o[here.into + n] = mean[n];
        }
        if (here.chunk == 0u) {
            lse[p.lse_offset + here.row] = select(LOWEST, LN2 * (most + log2(total)), total > 0.0);
        }
    }
}
