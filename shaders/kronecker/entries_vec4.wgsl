// Rows of a factor whose quads are neighbours at aligned places.
//
// 1 factor: array<vec4f>, F[t, j..j+3] at (own + t*f_t + j) / 4
@group(0) @binding(1) var<storage, read> factor: array<vec4f>;

fn entries(own: u32, t: u32, j: u32) -> vec4f {
    return factor[(own + t * p.f_t + (j & ~3u)) >> 2u];
}
