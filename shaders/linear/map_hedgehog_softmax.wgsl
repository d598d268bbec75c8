// softmax([2x, -2x]), one over both halves
const HALVES: u32 = 2u;
const MOST: bool = true;
const SUMS: bool = true;
const ALONG: bool = true;
const FIRST: bool = false;

fn raw(x: vec4f, most: vec2f) -> Pair {
    let peak = 2.0 * max(most.x, most.y);
    return Pair(exp(2.0 * x - peak), exp(-2.0 * x - peak));
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(w.a / (sum.x + sum.y), w.b / (sum.x + sum.y));
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    let s = mapped(x, w, sum);
    return Pair(s.a * d.a + s.b * d.b, vec4f());
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    let s = mapped(x, w, sum);
    return 2.0 * (s.a * (d.a - along.x) - s.b * (d.b - along.x));
}
