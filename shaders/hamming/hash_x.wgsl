// 0 x: array<Cell>, x[x_offset + (head*T + t)*C + channel]
@group(0) @binding(0) var<storage, read> x: array<Cell>;

fn channels_of(head: u32, t: u32, q: u32) -> vec4f {
    let left = p.channels - 4u * q;
    let at = p.x_offset + ((p.first_head + head) * p.tokens + t) * p.channels + 4u * q;
    let c = cells(at, left);
    return gather(at, left, x[c.x], x[c.y], x[c.z], x[c.w]);
}
