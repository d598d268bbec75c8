// [softmax(x), softmax(-x)], at least FLOOR; what is floored passes no gradient on
const HALVES: u32 = 2u;
const MOST: bool = true;
const SUMS: bool = true;
const ALONG: bool = true;
const FIRST: bool = false;
const FLOOR: f32 = 1e-12;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair(exp(x - most.x), exp(-x - most.y));
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(max(w.a / sum.x, vec4f(FLOOR)), max(w.b / sum.y, vec4f(FLOOR)));
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    let s = Pair(w.a / sum.x, w.b / sum.y);
    return Pair(select(vec4f(), s.a * d.a, s.a > vec4f(FLOOR)), select(vec4f(), s.b * d.b, s.b > vec4f(FLOOR)));
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    let t = flow(x, w, sum, d);
    return (t.a - w.a / sum.x * along.x) - (t.b - w.b / sum.y * along.y);
}
