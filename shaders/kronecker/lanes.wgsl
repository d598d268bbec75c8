// Sums of outer products by lanes of a subgroup: OUTPUTS sums for each of four rows that a lane owns.
const QUADS: u32 = OUTPUTS / 4u;

// Four rows a vector.
var<private> sum: array<vec4f, OUTPUTS>;

// Four by four.
struct Block {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
}

fn turned(m: Block) -> Block {
    return Block(vec4f(m.a.x, m.b.x, m.c.x, m.d.x), vec4f(m.a.y, m.b.y, m.c.y, m.d.y), vec4f(m.a.z, m.b.z, m.c.z, m.d.z), vec4f(m.a.w, m.b.w, m.c.w, m.d.w));
}

// Adds row i of x times f, of which a lane holds four.
fn add(x: vec4f, f: vec4f) {
    for (var n = 0u; n < QUADS; n++) {
        let quad = subgroupShuffle(f, n);
        sum[4u * n] = fma(x, vec4f(quad.x), sum[4u * n]);
        sum[4u * n + 1u] = fma(x, vec4f(quad.y), sum[4u * n + 1u]);
        sum[4u * n + 2u] = fma(x, vec4f(quad.z), sum[4u * n + 2u]);
        sum[4u * n + 3u] = fma(x, vec4f(quad.w), sum[4u * n + 3u]);
    }
}
