// What flows out of tokens, summed over channels.
//
// 10 left: array<f32>, left[beta_offset + row]
@group(0) @binding(10) var<storage, read_write> left: array<f32>;

var<private> leaving: Numbers;

fn leave(i: u32, at: u32, x: vec4f) {
    leaving[i] += dot(x, vec4f(1.0));
}

fn put_left(b: Block, lane: u32) {
    for (var i = 0u; i < HELD; i++) {
        let n = held_token(lane, i);
        if (n < b.count) {
            left[p.beta_offset + token_row(b, n)] = leaving[i];
        }
        leaving[i] = 0.0;
    }
}
