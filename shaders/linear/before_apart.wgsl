// The result is added to what another buffer holds.
//
// 4 held: array<Cell>, held[before_offset + row*V + v]
@group(0) @binding(4) var<storage, read> held: array<Cell>;

fn before(at: u32, left: u32) -> vec4f {
    let c = cells(p.before_offset + at, left);
    return gather(p.before_offset + at, left, held[c.x], held[c.y], held[c.z], held[c.w]);
}
