// A bias for every kernel; channels past the last repeat it.
//
// 3 b: array<f32>, b[channel]
@group(0) @binding(3) var<storage, read> b: array<f32>;

fn bias(head: u32, v: u32) -> vec4f {
    let last = p.key - 1u;
    return vec4f(b[channel_of(head, v)], b[channel_of(head, min(v + 1u, last))], b[channel_of(head, min(v + 2u, last))], b[channel_of(head, min(v + 3u, last))]);
}
