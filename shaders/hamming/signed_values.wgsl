// Values as rows: their columns, and 1 in the place of the weight.
// 1 v: array<Cell>, v[v_offset + (head*T + t)*V + column]
@group(0) @binding(1) var<storage, read> v: array<Cell>;

fn value_of(head: u32, t: u32, q: u32) -> vec4f {
    let live = q < p.quads;
    let channel = select(0u, 4u * q, live);
    let left = p.value - channel;
    let at = p.v_offset + tensor_row(head, t) * p.value + channel;
    let c = cells(at, left);
    return select(vec4f(1.0, 0.0, 0.0, 0.0), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}
