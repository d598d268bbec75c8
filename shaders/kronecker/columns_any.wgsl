// Columns anywhere, item by item.
//
// 0 x: array<One>, element x_at((l*P + t)*R + r)        2 z: array<f32>, z_at((l*Q + j)*R + r)
@group(0) @binding(0) var<storage, read> x: array<One>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;

struct Columns {
    x: vec4u,
    z: vec4u,
    live: vec4<bool>,
}

fn columns(first: u32, column: u32) -> Columns {
    let each = vec4u(column) + vec4u(0u, 1u, 2u, 3u);
    let c = vec4u(first) + min(each, vec4u(p.set_columns - 1u));
    let l = vec4u(p.first_unit) + c / vec4u(p.r);
    let r = c % vec4u(p.r);
    return Columns(l * p.p * p.r + r, l * p.q * p.r + r, each < vec4u(p.set_columns));
}

fn element(i: u32) -> f32 {
    let at = x_at(i);
    return widen_one(x[at >> ONES_SHIFT], at);
}

fn row(here: Columns, t: u32) -> vec4f {
    var found = vec4f();
    if (t < p.p) {
        let i = here.x + vec4u(t * p.r);
        found = vec4f(element(i.x), element(i.y), element(i.z), element(i.w));
    }
    return found;
}

fn fetch(here: Columns, t: u32) -> Block {
    return Block(row(here, t), row(here, t + 1u), row(here, t + 2u), row(here, t + 3u));
}

fn put_one(here: Columns, j: u32, y: vec4f) {
    if (j < p.q) {
        for (var c = 0u; c < 4u; c++) {
            if (here.live[c]) {
                let at = z_at(here.z[c] + j * p.r);
                var sum = p.alpha * y[c];
                if (p.beta != 0.0) {
                    sum = fma(p.beta, z[at], sum);
                }
                z[at] = sum;
            }
        }
    }
}

fn put(here: Columns, j: u32, y: Block) {
    put_one(here, j, y.a);
    put_one(here, j + 1u, y.b);
    put_one(here, j + 2u, y.c);
    put_one(here, j + 3u, y.d);
}
