// The result is added to what is there, which is of the type of x.
fn before(at: u32, left: u32) -> vec4f {
    let c = cells(p.y_offset + at, left);
    return gather(p.y_offset + at, left, y[c.x], y[c.y], y[c.z], y[c.w]);
}
