// A factor entry by entry; those past the last column repeat it.
//
// 1 factor: array<f32>, F[t, j] at own + t*f_t + j*f_j
@group(0) @binding(1) var<storage, read> factor: array<f32>;

fn entries(own: u32, t: u32, j: u32) -> vec4f {
    let at = vec4u(own + t * p.f_t) + min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(p.q - 1u)) * p.f_j;
    return vec4f(factor[at.x], factor[at.y], factor[at.z], factor[at.w]);
}
