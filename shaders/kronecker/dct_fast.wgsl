// Cosine transforms of lines of n = 2 HALF numbers through one complex FFT of HALF points in workgroup memory: entered in the order of
// reversed bits, then two radix-2 stages at a time. What goes in and what comes out is the part's: DCT-II or DCT-III.
//
// x and y are [.., n, inner]; line q is x[(q / inner * n + j)*inner + q % inner], from the binding's start.
//
// 0 x: array<f32>      1 roots: array<vec2f>, roots[t] = exp(-2πi t / (4n)), t < 2n      2 y: array<f32>
struct Params {
    lines: u32,
    inner: u32,
    first: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> roots: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const N: u32 = 2u << HALF_BITS;
const HALF: u32 = 1u << HALF_BITS;
const LANES: u32 = 1u << LANE_BITS;
const POINTS: u32 = LINES << HALF_BITS;
var<workgroup> arena: array<vec2f, POINTS>;

fn times(a: vec2f, b: vec2f) -> vec2f {
    return vec2f(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

fn conjugate(a: vec2f) -> vec2f {
    return vec2f(a.x, -a.y);
}

// exp(-2πi j / 2^bits)
fn root(j: u32, bits: u32) -> vec2f {
    return roots[j << (HALF_BITS + 3u - bits)];
}

fn reversed(k: u32) -> u32 {
    return reverseBits(k) >> (32u - HALF_BITS);
}

// The start of a line, and whether there is one.
struct Line {
    at: u32,
    live: bool,
}

fn line_at(q: u32) -> Line {
    return Line(q / p.inner * N * p.inner + q % p.inner, q < p.lines);
}

fn given(line: Line, j: u32) -> f32 {
    if (line.live) {
        return x[line.at + j * p.inner];
    }
    return 0.0;
}

fn put(line: Line, j: u32, value: f32) {
    if (line.live) {
        y[line.at + j * p.inner] = value;
    }
}

// Stage `bit` alone, of pairs.
fn two(lane: u32, bit: u32) {
    for (var e = 0u; e < POINTS / 2u; e += LANES) {
        let b = e + lane;
        if (b < POINTS / 2u) {
            let j = b & ((1u << bit) - 1u);
            let at = ((b >> bit) << (bit + 1u)) | j;
            let u = arena[at];
            let v = times(arena[at + (1u << bit)], root(j, bit + 1u));
            arena[at] = u + v;
            arena[at + (1u << bit)] = u - v;
        }
    }
}

// Stages `bit` and the next, of fours.
fn four(lane: u32, bit: u32) {
    for (var e = 0u; e < POINTS / 4u; e += LANES) {
        let b = e + lane;
        if (b < POINTS / 4u) {
            let step = 1u << bit;
            let j = b & (step - 1u);
            let at = ((b >> bit) << (bit + 2u)) | j;
            let inner = root(j, bit + 1u);
            let outer = root(j, bit + 2u);
            let x0 = arena[at];
            let x1 = times(arena[at + step], inner);
            let x2 = arena[at + 2u * step];
            let x3 = times(arena[at + 3u * step], inner);
            let y0 = x0 + x1;
            let y1 = x0 - x1;
            let y2 = times(x2 + x3, outer);
            let turned = times(x2 - x3, outer);
            // Times -i: the root a quarter further on.
            let y3 = vec2f(turned.y, -turned.x);
            arena[at] = y0 + y2;
            arena[at + step] = y1 + y3;
            arena[at + 2u * step] = y0 - y2;
            arena[at + 3u * step] = y1 - y3;
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first = p.first + group_index(group, grid) * LINES;
    for (var e = 0u; e < POINTS; e += LANES) {
        let k = (e + lane) & (HALF - 1u);
        if (e + lane < POINTS) {
            arena[((e + lane) & ~(HALF - 1u)) | reversed(k)] = entering(line_at(first + ((e + lane) >> HALF_BITS)), k);
        }
    }
    workgroupBarrier();
    if ((HALF_BITS & 1u) == 1u) {
        two(lane, 0u);
        workgroupBarrier();
    }
    for (var bit = HALF_BITS & 1u; bit < HALF_BITS; bit += 2u) {
        four(lane, bit);
        workgroupBarrier();
    }
    for (var e = 0u; e < POINTS; e += LANES) {
        let k = (e + lane) & (HALF - 1u);
        if (e + lane < POINTS) {
            leaving(line_at(first + ((e + lane) >> HALF_BITS)), (e + lane) & ~(HALF - 1u), k);
        }
    }
}
