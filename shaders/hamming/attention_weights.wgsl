// Weights of pairs: w_ij = table[|d_ij - m_i|] where key j counts for row i, that is where (d_ij, j) <= (cut_i, last_i), else 0.
//
// 3 table: array<f32>, see attention_span
// Asks for: p.bits; table_of(), seen(); limits(slot, base) of a part.
@group(0) @binding(3) var<storage, read> table: array<f32>;

var<private> base: vec4u;
var<private> heaviest: vec4u;
var<private> cut: vec4u;
var<private> last: vec4u;

// Learns about four rows from `first`, which are `slot` and after in the chunk.
fn learn(s: Span, first: u32, slot: u32) {
    look(s, first);
    for (var i = 0u; i < 4u; i++) {
        base[i] = table_of(s, min(first + i, s.rows - 1u));
        let x = limits(slot + i, base[i]);
        heaviest[i] = x.x;
        cut[i] = x.y;
        last[i] = x.z;
    }
}

// Weights of four pairs of keys j and rows at distances d, of which the rest says what is known.
fn weigh(begin: vec4u, m: vec4u, most: vec4u, end: vec4u, sees: vec4<bool>, j: vec4u, d: vec4u) -> vec4f {
    let at = begin + min(max(d, m) - min(d, m), vec4u(p.bits));
    let counts = (d < most) | ((d == most) & (j <= end));
    return select(vec4f(), vec4f(table[at.x], table[at.y], table[at.z], table[at.w]), sees & counts);
}

// Of row i with four keys.
fn weights_of(i: u32, j: vec4u, d: vec4u) -> vec4f {
    return weigh(vec4u(base[i]), vec4u(heaviest[i]), vec4u(cut[i]), vec4u(last[i]), seen(i, j), j, d);
}
