// Nobody asks what flows out of tokens.
fn leave(i: u32, at: u32, x: vec4f) {}

fn put_left(b: Block, lane: u32) {}
