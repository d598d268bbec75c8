// What the kernels of attention between signed codes share: parameters and where things lie. With h = 2 bit - 1 a token's signs
// and x its row of numbers, a state is S_r = sum h_r x for every bit r, and the plain sum of x as a last row.
//
// Rows, states and pairs are temporaries of the heads from first_head on; tensors are counted from head 0. A row of theirs has
// `quads` vectors for the value's columns and one more whose first entry is a weight.
// 0 codes: array<u32>, codes[codes_offset + (head*T + t)*words + word]
struct Params {
    tokens: u32,
    bits: u32,
    words: u32,
    value: u32,
    quads: u32,
    // Tokens of a part, and parts of a head: states that it keeps.
    span: u32,
    parts: u32,
    first_head: u32,
    items: u32,
    first: u32,
    groups: u32,
    codes_offset: u32,
    v_offset: u32,
    o_offset: u32,
    // The bits of a code's last word that count.
    last_mask: u32,
    whole: u32,
    offset: f32,
}
var<immediate> p: Params;

// The item of a lane; none (u32 max) where there are no more.
fn item_of(index: u32, lane: u32) -> u32 {
    let item = (p.first + index) * 64u + lane;
    return select(0xffffffffu, item, index < p.groups && item < p.items);
}

// Vectors of a row.
fn columns() -> u32 {
    return p.quads + 1u;
}

// The row of a token of a tensor.
fn tensor_row(head: u32, t: u32) -> u32 {
    return (p.first_head + head) * p.tokens + t;
}

// The first vector of a state.
fn state_at(head: u32, part: u32) -> u32 {
    return (head * p.parts + part) * (p.bits + 1u) * columns();
}
