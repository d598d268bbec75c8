// Flows into tokens less those out of them, per channel and query head.
//
// 0 flow: array<vec4f>, flow[row * key_vecs + c], rows of query heads
@group(0) @binding(0) var<storage, read> flow: array<vec4f>;

fn flow_of(here: Chunk, head: u32, t: u32, c: u32) -> vec4f {
    var sum = vec4f();
    for (var n = 0u; n < p.group; n++) {
        sum += flow[row_of(here.batch, head * p.group + n, p.heads * p.group, t) * p.key_vecs + c - p.flow_offset];
    }
    return sum;
}

fn flow_over_channels(here: Chunk, head: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var c = 0u; c < p.key_vecs; c++) {
        sum += dot(flow_of(here, head, t, c), vec4f(1.0));
    }
    return sum;
}
