// One axis of x multiplied by a factor: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]. An invocation computes four j.
//
// 0 x: array<One>, element x_at((l*P + t)*R + r)        1 factor: see its part        2 z: array<f32>, z_at((l*Q + j)*R + r)
@group(0) @binding(0) var<storage, read> x: array<One>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;

fn element(l: u32, t: u32, r: u32) -> f32 {
    let at = x_at((l * p.p + t) * p.r + r);
    return widen_one(x[at >> ONES_SHIFT], at);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let i = (p.first + index) * 64u + lane;
    let quads = (p.q + 3u) / 4u;
    let l = p.first_unit + i / p.r / quads;
    if (index < p.groups && l < p.units) {
        let r = i % p.r;
        let j = 4u * (i / p.r % quads);
        let y = p.alpha * products(l, j, r, p.f_offset + (p.f_first + l) / p.f_units * p.f_batch);
        for (var c = 0u; c < 4u; c++) {
            if (j + c < p.q) {
                let at = z_at((l * p.q + j + c) * p.r + r);
                var sum = y[c];
                if (p.beta != 0.0) {
                    sum = fma(p.beta, z[at], sum);
                }
                z[at] = sum;
            }
        }
    }
}
