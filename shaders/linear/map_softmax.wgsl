// softmax(x) over the row
const HALVES: u32 = 1u;
const MOST: bool = true;
const SUMS: bool = true;
const ALONG: bool = true;
const FIRST: bool = false;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair(exp(x - most.x), vec4f());
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(w.a / sum.x, vec4f());
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    return Pair(w.a / sum.x * d.a, vec4f());
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    return w.a / sum.x * (d.a - along.x);
}
