// Only the state is wanted.
fn put_o(row: u32, column: u32, x: vec4f) {}
