// [exp(x - max x), exp(min x - x)], at least FLOOR; what is floored passes no gradient on. The kernel takes the sums of the
// flows from the first largest and the first smallest column.
const HALVES: u32 = 2u;
const MOST: bool = true;
const SUMS: bool = false;
const ALONG: bool = true;
const FIRST: bool = true;
const FLOOR: f32 = 1e-12;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair(exp(x - most.x), exp(-x - most.y));
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(max(w.a, vec4f(FLOOR)), max(w.b, vec4f(FLOOR)));
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    return Pair(select(vec4f(), w.a * d.a, w.a > vec4f(FLOOR)), select(vec4f(), w.b * d.b, w.b > vec4f(FLOOR)));
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    let t = flow(x, w, sum, d);
    return t.a - t.b;
}
