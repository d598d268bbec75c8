// Every key that is seen counts; weights are relative to the largest of the row.
//
// 4 least: array<u32>, a row: bits + 1 - (how far its heaviest key is from the heaviest distance), 0 without keys
@group(0) @binding(4) var<storage, read> least: array<u32>;

// The distance of the row's heaviest key, the cut-off distance, and the last index counted at it.
fn limits(slot: u32, base: u32) -> vec3u {
    let flip = u32(table[base + p.bits + 1u]);
    let far = p.bits + 1u - max(least[slot], 1u);
    return vec3u(max(flip, far) - min(flip, far), 0xffffffffu, 0xffffffffu);
}

fn total_of(slot: u32, running: f32) -> f32 {
    return running;
}
