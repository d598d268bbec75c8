// [exp(x), exp(-x)]
const HALVES: u32 = 2u;
const MOST: bool = false;
const SUMS: bool = false;
const ALONG: bool = false;
const FIRST: bool = false;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair(exp(x), exp(-x));
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return w;
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    return Pair();
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    return w.a * d.a - w.b * d.b;
}
