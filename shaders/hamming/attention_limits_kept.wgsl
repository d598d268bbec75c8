// What is known of each row: the distance of its heaviest key, the cut-off distance, the last index counted at it, and the sum of the
// weights as f32.
//
// 4 kept: array<vec4u>
@group(0) @binding(4) var<storage, read> kept: array<vec4u>;

fn limits(slot: u32, base: u32) -> vec3u {
    return kept[slot].xyz;
}

fn total_of(slot: u32, running: f32) -> f32 {
    return bitcast<f32>(kept[slot].w);
}
