// Four items of four columns, by column, where r is a multiple of four: the columns are neighbours. Items past the last repeat it.
//
// 0 x: array<vec4f>, ((l*P + i)*R + r + x_offset) / 4        1 g: array<vec4f>, ((l*Q + j)*R + r + g_offset) / 4
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;

fn x_items(column: vec4u, i: u32) -> Block {
    let item = min(vec4u(i) + vec4u(0u, 1u, 2u, 3u), vec4u(p.p - 1u));
    let at = (vec4u(p.x_offset + column.x % p.r) + (vec4u(column.x / p.r * p.p) + item) * p.r) >> vec4u(2u);
    return turned(Block(x[at.x], x[at.y], x[at.z], x[at.w]));
}

fn g_items(column: vec4u, j: u32) -> Block {
    let item = min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(p.q - 1u));
    let at = (vec4u(p.g_offset + column.x % p.r) + (vec4u(column.x / p.r * p.q) + item) * p.r) >> vec4u(2u);
    return turned(Block(g[at.x], g[at.y], g[at.z], g[at.w]));
}
