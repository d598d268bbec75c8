// Items by themselves.
alias Stored = f32;
alias Quad = vec4f;

// Two stages.
fn quad(a: f32, b: f32, c: f32, d: f32) -> Quad {
    let u = vec4f(a + b, a - b, c + d, c - d);
    return vec4f(u.x + u.z, u.y + u.w, u.x - u.z, u.y - u.w);
}

fn kept(at: u32, x: Quad) {
    var value = x;
    if (SCALED) {
        value = p.scale * x;
    }
    y[at] = value.x;
    y[at + p.stride] = value.y;
    y[at + 2u * p.stride] = value.z;
    y[at + 3u * p.stride] = value.w;
}
