// Four neighbouring columns a vector: r is a multiple of four, and rows lie one after another.
//
// 0 x: array<vec4f>, ((l*P + t)*R + r + x_offset) / 4        2 z: array<vec4f>, ((l*Q + j)*R + r + z_offset) / 4
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> z: array<vec4f>;

struct Columns {
    x: u32,
    z: u32,
    live: bool,
}

fn columns(first: u32, column: u32) -> Columns {
    let live = column < p.set_columns;
    let c = first + select(0u, column, live);
    let l = p.first_unit + c / p.r;
    return Columns((p.x_offset + l * p.p * p.r + c % p.r) >> 2u, (p.z_offset + l * p.q * p.r + c % p.r) >> 2u, live);
}

fn row(here: Columns, t: u32) -> vec4f {
    var found = vec4f();
    if (t < p.p) {
        found = x[here.x + t * (p.r >> 2u)];
    }
    return found;
}

fn fetch(here: Columns, t: u32) -> Block {
    return Block(row(here, t), row(here, t + 1u), row(here, t + 2u), row(here, t + 3u));
}

fn store(at: u32, y: vec4f) {
    var sum = p.alpha * y;
    if (p.beta != 0.0) {
        sum = fma(vec4f(p.beta), z[at], sum);
    }
    z[at] = sum;
}

fn put(here: Columns, j: u32, y: Block) {
    if (here.live) {
        let at = here.z + j * (p.r >> 2u);
        let step = p.r >> 2u;
        store(at, y.a);
        if (j + 1u < p.q) {
            store(at + step, y.b);
        }
        if (j + 2u < p.q) {
            store(at + 2u * step, y.c);
        }
        if (j + 3u < p.q) {
            store(at + 3u * step, y.d);
        }
    }
}
