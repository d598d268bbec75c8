// Where four of what is stored are one vector or matrix.
fn sum(u: Quad, v: Quad) -> Quad {
    return u + v;
}

fn less(u: Quad, v: Quad) -> Quad {
    return u - v;
}

fn scaled(x: Quad) -> Quad {
    return p.scale * x;
}
