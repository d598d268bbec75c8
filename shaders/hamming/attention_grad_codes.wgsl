// Gradients of the +-1 view of codes: dh_i = beta sum_j dS_ij g_j, dg_j = beta sum_i dS_ij h_i.
//
// 2 v: array<Cell>, v[v_offset + (kv*capacity + j)*V + c]
@group(0) @binding(2) var<storage, read> v: array<Cell>;

fn width() -> u32 {
    return p.bits;
}

fn load_value(row: u32, column: u32) -> vec4f {
    let live = column < p.value;
    let left = select(1u, p.value - column, live);
    let at = p.v_offset + row * p.value + select(0u, column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}

// Pairs without weight change nothing, whatever lies in their values' place.
fn change(weight: vec4f, product: vec4f, mean: vec4f, beta: f32) -> vec4f {
    return select(vec4f(), beta * weight * (product - mean), weight > vec4f());
}

// Four bits of a word from feature f on, as +-1.
fn signs(word: u32, f: u32) -> vec4f {
    let bits = (vec4u(word) >> (vec4u(f % 32u) + vec4u(0u, 1u, 2u, 3u))) & vec4u(1u);
    return select(vec4f(-1.0), vec4f(1.0), bits == vec4u(1u));
}

// The word of a column's code that has feature f.
fn code_word(row: u32, f: u32) -> u32 {
    return b[p.b_offset + min(row, p.b_len - 1u) * p.words + min(f / 32u, p.words - 1u)];
}
