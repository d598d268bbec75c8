// Columns that are rows of memory, of which four neighbours are a vector: r is 1, p and q are multiples of four.
//
// 0 x: array<vec4f>, (l*P + t + x_offset) / 4        2 z: array<vec4f>, (l*Q + j + z_offset) / 4
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> z: array<vec4f>;

struct Columns {
    x: vec4u,
    z: vec4u,
    live: vec4<bool>,
}

fn columns(first: u32, column: u32) -> Columns {
    let each = vec4u(column) + vec4u(0u, 1u, 2u, 3u);
    let l = vec4u(p.first_unit + first) + min(each, vec4u(p.set_columns - 1u));
    return Columns((vec4u(p.x_offset) + l * p.p) >> vec4u(2u), (vec4u(p.z_offset) + l * p.q) >> vec4u(2u), each < vec4u(p.set_columns));
}

fn fetch(here: Columns, t: u32) -> Block {
    let at = here.x + vec4u(t >> 2u);
    return turned(Block(x[at.x], x[at.y], x[at.z], x[at.w]));
}

fn store(at: u32, y: vec4f) {
    var sum = p.alpha * y;
    if (p.beta != 0.0) {
        sum = fma(vec4f(p.beta), z[at], sum);
    }
    z[at] = sum;
}

fn put(here: Columns, j: u32, y: Block) {
    let row = turned(y);
    let at = here.z + vec4u(j >> 2u);
    if (here.live.x) {
        store(at.x, row.a);
    }
    if (here.live.y) {
        store(at.y, row.b);
    }
    if (here.live.z) {
        store(at.z, row.c);
    }
    if (here.live.w) {
        store(at.w, row.d);
    }
}
