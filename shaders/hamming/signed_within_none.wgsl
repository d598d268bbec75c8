// Every token is in the states.
fn within(head: u32, first: u32, r: u32, sums: ptr<function, array<vec4f, 4>>) {}
