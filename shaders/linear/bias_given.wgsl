// A bias.
//
// 3 b: array<f32>, b[set*K + k]
@group(0) @binding(3) var<storage, read> b: array<f32>;

fn bias(weight_set: u32, column: u32) -> vec4f {
    let at = vec4u(weight_set * p.key) + min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(p.key - 1u));
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}
