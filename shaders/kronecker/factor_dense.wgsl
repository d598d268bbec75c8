// A dense factor.
//
// 1 factor: array<f32>, F[t, j] at own + t*f_t + j*f_j
@group(0) @binding(1) var<storage, read> factor: array<f32>;

fn products(l: u32, j: u32, r: u32, own: u32) -> vec4f {
    // Those beyond the last are computed as the last and not kept.
    let column = vec4u(own) + min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(p.q - 1u)) * p.f_j;
    var sum = vec4f();
    for (var t = 0u; t < p.p; t++) {
        let at = column + vec4u(t * p.f_t);
        sum = fma(vec4f(element(l, t, r)), vec4f(factor[at.x], factor[at.y], factor[at.z], factor[at.w]), sum);
    }
    return sum;
}
