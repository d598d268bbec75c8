// Four items of four columns, by column, where r is 1 and items of a column are vectors.
//
// 0 x: array<vec4f>, (l*P + i + x_offset) / 4        1 g: array<vec4f>, (l*Q + j + g_offset) / 4
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;

fn x_items(column: vec4u, i: u32) -> Block {
    let at = (vec4u(p.x_offset + i) + column * p.p) >> vec4u(2u);
    return Block(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn g_items(column: vec4u, j: u32) -> Block {
    let at = (vec4u(p.g_offset + j) + column * p.q) >> vec4u(2u);
    return Block(g[at.x], g[at.y], g[at.z], g[at.w]);
}
