// Only what is missed is wanted.
fn put_weighed(row: u32, column: u32, x: vec4f) {}
