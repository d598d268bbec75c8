// Arithmetic modulo 65537 = 2^16 + 1 on numbers 0 .. 65536, and the transform of 16 of them.
//
// 4 is a 16th root of one there, and the powers of a root of order 65536 come from a table in two factors:
// root^e = roots[256 + e/256] * roots[e%256].
const Q: u32 = 65537u;

// Differences wrap where they are negative, so that the smaller of x and x + Q is right.
fn reduce(x: vec4u) -> vec4u {
    let r = (x & vec4u(0xffffu)) - (x >> vec4u(16u));
    return min(r, r + vec4u(Q));
}

// 65536 * 65536 wraps to 0 and is 1.
fn mul(a: vec4u, b: vec4u) -> vec4u {
    return reduce(a * b) + ((a & b) >> vec4u(16u));
}

fn mul1(a: u32, b: u32) -> u32 {
    return mul(vec4u(a), vec4u(b)).x;
}

fn add(a: vec4u, b: vec4u) -> vec4u {
    let s = a + b;
    return min(s, s - vec4u(Q));
}

fn sub(a: vec4u, b: vec4u) -> vec4u {
    let d = a - b;
    return min(d, d + vec4u(Q));
}

// Of four vectors, for each component: y_k = sum_n x_n 256^(nk).
fn dft4(x: array<vec4u, 4>) -> array<vec4u, 4> {
    let s0 = add(x[0], x[2]);
    let d0 = sub(x[0], x[2]);
    let s1 = add(x[1], x[3]);
    let d1 = reduce(sub(x[1], x[3]) << vec4u(8u));
    return array<vec4u, 4>(add(s0, s1), add(d0, d1), sub(s0, s1), sub(d0, d1));
}

// y_k = sum_n x_n 4^(nk), where number n is component n%4 of vector n/4.
fn dft16(x: array<vec4u, 4>) -> array<vec4u, 4> {
    let y = dft4(x);
    let y1 = reduce(y[1] << vec4u(0u, 2u, 4u, 6u));
    let y2 = reduce(y[2] << vec4u(0u, 4u, 8u, 12u));
    // 2^18 = -4.
    let z = reduce(y[3] << vec4u(0u, 6u, 12u, 2u));
    let y3 = vec4u(z.xyz, sub(vec4u(), z).w);
    return dft4(array<vec4u, 4>(
        vec4u(y[0].x, y1.x, y2.x, y3.x),
        vec4u(y[0].y, y1.y, y2.y, y3.y),
        vec4u(y[0].z, y1.z, y2.z, y3.z),
        vec4u(y[0].w, y1.w, y2.w, y3.w),
    ));
}

@group(0) @binding(0) var<storage, read> roots: array<u32>;

// root^(e*n) for n = 0 .. 15.
fn powers(e: u32) -> array<vec4u, 4> {
    let w = mul1(roots[256u + e / 256u], roots[e % 256u]);
    let w2 = mul1(w, w);
    let w4 = vec4u(mul1(w2, w2));
    let t0 = vec4u(1u, w, w2, mul1(w2, w));
    let t1 = mul(t0, w4);
    let t2 = mul(t1, w4);
    return array<vec4u, 4>(t0, t1, t2, mul(t2, w4));
}
