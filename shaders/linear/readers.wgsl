// Readers of the state.
//
// 0 q: array<Cell>
const READS: bool = true;
@group(0) @binding(0) var<storage, read> q: array<Cell>;

fn reader_row(row: u32, r: u32, live: bool) -> vec4f {
    let at = p.q_offset + row * p.key + select(0u, r, live);
    let left = select(1u, p.key - r, live);
    let c = cells(at, left);
    return select(vec4f(), key_feature(gather(at, left, q[c.x], q[c.y], q[c.z], q[c.w]), left), live);
}
