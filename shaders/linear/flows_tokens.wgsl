// Flows into tokens and out of them, in sums over slices of the channels, as walks write them.
//
// 0 came: array<f32>, came[row * slices + slice]        7 left: array<f32>, like came
@group(0) @binding(0) var<storage, read> came: array<f32>;
@group(0) @binding(7) var<storage, read> left: array<f32>;

fn flow_of(here: Chunk, head: u32, t: u32, c: u32) -> vec4f {
    return vec4f();
}

fn flow_over_channels(here: Chunk, head: u32, t: u32) -> f32 {
    let at = row_of(here.batch, head, p.heads, t) * p.slices - p.flow_offset;
    var sum = 0.0;
    for (var n = 0u; n < p.slices; n++) {
        sum += came[at + n] - left[at + n];
    }
    return sum;
}
