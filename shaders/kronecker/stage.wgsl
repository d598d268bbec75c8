// One axis of x multiplied by a factor: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]. An invocation computes four j; a
// workgroup has ACROSS times as many.
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
    let columns = 64u / ACROSS;
    let blocks = (p.q + 4u * ACROSS - 1u) / (4u * ACROSS);
    let tiles = (p.set_columns + columns - 1u) / columns;
    let place = (p.first + index) / blocks;
    let own = place / tiles;
    let column = columns * (place % tiles) + lane % columns;
    let j = 4u * (ACROSS * ((p.first + index) % blocks) + lane / columns);
    if (index < p.groups && column < p.set_columns && j < p.q) {
        let c = own * p.set_columns + column;
        let l = p.first_unit + c / p.r;
        let r = c % p.r;
        let y = p.alpha * products(l, j, r, p.f_offset + (p.f_set + own) * p.f_batch);
        for (var n = 0u; n < 4u; n++) {
            if (j + n < p.q) {
                let at = z_at((l * p.q + j + n) * p.r + r);
                var sum = y[n];
                if (p.beta != 0.0) {
                    sum = fma(p.beta, z[at], sum);
                }
                z[at] = sum;
            }
        }
    }
}
