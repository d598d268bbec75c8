// What weights of gradients read beside queries and landmarks.
//
// 4 v: array<Cell>, v[v_offset + row(t) * value + c]          5 d: array<Cell>, the gradient of o, as v from d_offset
@group(0) @binding(4) var<storage, read> v: array<Cell>;
@group(0) @binding(5) var<storage, read> d: array<Cell>;

fn load_v(here: Place, t: u32, channel: u32) -> vec4f {
    let live = t < here.end && channel < p.value;
    let at = p.v_offset + (here.row + select(here.begin, t, live) * p.token_stride) * p.value + select(0u, channel, live);
    let left = select(1u, p.value - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}

fn load_d(here: Place, t: u32, channel: u32) -> vec4f {
    let live = t < here.end && channel < p.value;
    let at = p.d_offset + (here.row + select(here.begin, t, live) * p.token_stride) * p.value + select(0u, channel, live);
    let left = select(1u, p.value - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, d[c.x], d[c.y], d[c.z], d[c.w]), live);
}
