// An elementwise map as a map of rows.
const HALVES: u32 = 1u;
const MOST: bool = false;
const SUMS: bool = false;
const ALONG: bool = false;
const FIRST: bool = false;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair();
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(feature(x), vec4f());
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    return Pair();
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    return feature_slope(x) * d.a;
}
