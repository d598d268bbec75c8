// r x, r = (x.x + 1e-6)^(-1/2)
const HALVES: u32 = 1u;
const MOST: bool = false;
const SUMS: bool = true;
const ALONG: bool = true;
const FIRST: bool = false;

fn raw(x: vec4f, most: vec2f) -> Pair {
    return Pair(x * x, vec4f());
}

fn mapped(x: vec4f, w: Pair, sum: vec2f) -> Pair {
    return Pair(x * inverseSqrt(sum.x + 1e-6), vec4f());
}

fn flow(x: vec4f, w: Pair, sum: vec2f, d: Pair) -> Pair {
    return Pair(x * inverseSqrt(sum.x + 1e-6) * d.a, vec4f());
}

fn pulled(x: vec4f, w: Pair, sum: vec2f, d: Pair, along: vec2f) -> vec4f {
    let r = inverseSqrt(sum.x + 1e-6);
    return r * (d.a - r * x * along.x);
}
