// Sums of outer products by lanes of a subgroup: OUTPUTS sums for each of the SETS times four rows that a lane owns.
const QUADS: u32 = OUTPUTS / 4u;

// Four rows a vector, by quads of outputs, sets, and outputs of a quad: loops over an axis as long as they are get unrolled.
var<private> sum: array<array<array<vec4f, 4>, SETS>, QUADS>;

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

fn clear() {
    sum = array<array<array<vec4f, 4>, SETS>, QUADS>();
}

fn add_quad(x: array<vec4f, SETS>, f: vec4f, n: u32) {
    let quad = subgroupShuffle(f, n);
    for (var s = 0u; s < SETS; s++) {
        sum[n][s][0] = fma(x[s], vec4f(quad.x), sum[n][s][0]);
        sum[n][s][1] = fma(x[s], vec4f(quad.y), sum[n][s][1]);
        sum[n][s][2] = fma(x[s], vec4f(quad.z), sum[n][s][2]);
        sum[n][s][3] = fma(x[s], vec4f(quad.w), sum[n][s][3]);
    }
}

// Adds the sets' rows times f, of which a lane holds four. Written out because a compiler that leaves the loop keeps the sums in
// memory.
fn add(x: array<vec4f, SETS>, f: vec4f) {
    add_quad(x, f, 0u);
    add_quad(x, f, 1u);
    if (QUADS > 2u) {
        add_quad(x, f, 2u);
        add_quad(x, f, 3u);
    }
    if (QUADS > 4u) {
        add_quad(x, f, 4u);
        add_quad(x, f, 5u);
        add_quad(x, f, 6u);
        add_quad(x, f, 7u);
    }
}
