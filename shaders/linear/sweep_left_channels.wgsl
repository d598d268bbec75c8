// What flows out of tokens, per channel.
//
// 10 left: array<vec4f>, like k
@group(0) @binding(10) var<storage, read_write> left: array<vec4f>;

fn leave(i: u32, at: u32, x: vec4f) {
    left[at] = x;
}

fn put_left(b: Block, lane: u32) {}
