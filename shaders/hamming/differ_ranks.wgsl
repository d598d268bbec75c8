// Symbols match where their ranks are equal in every plane.
fn seen(so_far: vec4u, text: vec4u, pattern: u32) -> vec4u {
    return so_far | (text ^ vec4u(pattern));
}

fn mismatches(seen: vec4u) -> vec4u {
    return seen;
}
