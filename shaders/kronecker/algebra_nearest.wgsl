// Minima of sums in u32, with the index that goes with them: ties go to the lower index. All ones stand for nothing, and for
// whatever is no less.
alias Scalar = u32;
alias Item = vec2u;

fn further(a: Scalar, x: Item) -> Item {
    return select(vec2u(a + x.x, x.y), vec2u(0xffffffffu), a >= ~x.x);
}

fn both(a: Scalar, x: Item, c: Scalar, y: Item) -> Item {
    let u = further(a, x);
    let v = further(c, y);
    let second = v.x < u.x || (v.x == u.x && v.y < u.y);
    return select(u, v, second);
}
