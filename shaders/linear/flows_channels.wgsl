// Flows into tokens and out of them, per channel, as walks write them.
//
// 0 came: array<vec4f>, came[row * key_vecs + c]        7 left: array<vec4f>, like came
@group(0) @binding(0) var<storage, read> came: array<vec4f>;
@group(0) @binding(7) var<storage, read> left: array<vec4f>;

fn flow_of(here: Chunk, head: u32, t: u32, c: u32) -> vec4f {
    let at = row_of(here.batch, head, p.heads, t) * p.key_vecs + c - p.flow_offset;
    return came[at] - left[at];
}

fn flow_over_channels(here: Chunk, head: u32, t: u32) -> f32 {
    return 0.0;
}
