// Eight neighbouring items at a time, as a vector of words: a software adapter loops over lanes for each load, and pays for the loop
// more than for what is loaded. Of eight columns, or with WITHIN of one, whose first three stages are theirs.
alias Stored = vec4<u64>;

// Items 0, 2, 4 and 6 of four, a column each, and items 1, 3, 5 and 7.
struct Quad {
    even: mat4x4f,
    odd: mat4x4f,
}

// Two stages.
fn crossed_columns(x: mat4x4f) -> mat4x4f {
    let u = mat4x4f(x[0] + x[1], x[0] - x[1], x[2] + x[3], x[2] - x[3]);
    return mat4x4f(u[0] + u[2], u[1] + u[3], u[0] - u[2], u[1] - u[3]);
}

fn crossed_rows(x: mat4x4f) -> mat4x4f {
    return mat4x4f(crossed(x[0]), crossed(x[1]), crossed(x[2]), crossed(x[3]));
}

fn even(x: Stored) -> vec4f {
    return bitcast<vec4f>(vec4u(x));
}

fn odd(x: Stored) -> vec4f {
    return bitcast<vec4f>(vec4u(x >> vec4u(32u)));
}

fn quad(a: Stored, b: Stored, c: Stored, d: Stored) -> Quad {
    let x = crossed_columns(mat4x4f(even(a), even(b), even(c), even(d)));
    let y = crossed_columns(mat4x4f(odd(a), odd(b), odd(c), odd(d)));
    if (WITHIN) {
        return Quad(crossed_rows(x + y), crossed_rows(x - y));
    }
    return Quad(x, y);
}

fn sum(u: Quad, v: Quad) -> Quad {
    return Quad(u.even + v.even, u.odd + v.odd);
}

fn less(u: Quad, v: Quad) -> Quad {
    return Quad(u.even - v.even, u.odd - v.odd);
}

fn scaled(x: Quad) -> Quad {
    return Quad(p.scale * x.even, p.scale * x.odd);
}

fn joined(x: vec4f, y: vec4f) -> Stored {
    return Stored(bitcast<vec4u>(x)) | (Stored(bitcast<vec4u>(y)) << vec4u(32u));
}

fn put(at: u32, value: Quad) {
    y[at] = joined(value.even[0], value.odd[0]);
    y[at + p.stride] = joined(value.even[1], value.odd[1]);
    y[at + 2u * p.stride] = joined(value.even[2], value.odd[2]);
    y[at + 3u * p.stride] = joined(value.even[3], value.odd[3]);
}
