// Four items of four columns, by column, one by one. Items past the last repeat it.
//
// 0 x: array<f32>, (l*P + i)*R + r + x_offset        1 g: array<f32>, (l*Q + j)*R + r + g_offset
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;

fn places(column: u32, i: u32, items: u32) -> vec4u {
    let item = min(vec4u(i) + vec4u(0u, 1u, 2u, 3u), vec4u(items - 1u));
    return vec4u(column % p.r) + (vec4u(column / p.r * items) + item) * p.r;
}

fn x_column(column: u32, i: u32) -> vec4f {
    let at = vec4u(p.x_offset) + places(column, i, p.p);
    return vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn g_column(column: u32, j: u32) -> vec4f {
    let at = vec4u(p.g_offset) + places(column, j, p.q);
    return vec4f(g[at.x], g[at.y], g[at.z], g[at.w]);
}

fn x_items(column: vec4u, i: u32) -> Block {
    return Block(x_column(column.x, i), x_column(column.y, i), x_column(column.z, i), x_column(column.w, i));
}

fn g_items(column: vec4u, j: u32) -> Block {
    return Block(g_column(column.x, j), g_column(column.y, j), g_column(column.z, j), g_column(column.w, j));
}
