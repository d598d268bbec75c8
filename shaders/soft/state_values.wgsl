// Operands of sums over tokens: a tensor as wide as the values.
//
// 2 x: array<Cell>, x[x_offset + row(t) * columns + c]
@group(0) @binding(2) var<storage, read> x: array<Cell>;

fn operand(here: Place, t: u32, channel: u32) -> vec4f {
    let live = t < here.end && channel < p.columns;
    let at = p.x_offset + (here.row + select(here.begin, t, live) * p.token_stride) * p.columns + select(0u, channel, live);
    let left = select(1u, p.columns - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, x[c.x], x[c.y], x[c.z], x[c.w]), live);
}

fn own_of(here: Place, a: u32, channel: u32) -> vec4f {
    return vec4f();
}

fn term(x: vec4f, own: vec4f) -> vec4f {
    return x;
}
