// Items by themselves.
alias Stored = f32;
alias Quad = vec4f;

// Two stages.
fn quad(a: f32, b: f32, c: f32, d: f32) -> Quad {
    return crossed(vec4f(a, b, c, d));
}

fn put(at: u32, value: Quad) {
    y[at] = value.x;
    y[at + p.stride] = value.y;
    y[at + 2u * p.stride] = value.z;
    y[at + 3u * p.stride] = value.w;
}
