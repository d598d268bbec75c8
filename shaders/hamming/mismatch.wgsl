// Distances of short patterns at the four positions of a lane. A position's window holds the 64 symbols from it on.
//
// 0 text: array<u32>, ROWS planes of p.stride words
// 1 patterns: array<u32>, HEAD + 2*PLANES words a pattern: its length, the most mismatches, two words of the symbols that count,
// two of those that must match, then two of each plane
@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> patterns: array<u32>;

const HEAD: u32 = 6u;
const LEN: u32 = HEAD + 2u * PLANES;
// The row of symbols that are not wild, where there is one.
const KEPT: u32 = ROWS - 1u;
const ABSENT: u32 = 0xffffffffu;

struct Window {
    low: array<vec4u, ROWS>,
    high: array<vec4u, ROWS>,
}

fn window(at: u32) -> Window {
    var found: Window;
    let s = vec4u(at % 32u) + vec4u(0u, 1u, 2u, 3u);
    let last = p.stride - 1u;
    for (var q = 0u; q < ROWS; q++) {
        let row = q * p.stride;
        let a = vec4u(text[row + min(at / 32u, last)]);
        let b = vec4u(text[row + min(at / 32u + 1u, last)]);
        let c = vec4u(text[row + min(at / 32u + 2u, last)]);
        found.low[q] = (a >> s) | (b << vec4u(1u) << (vec4u(31u) - s));
        found.high[q] = (b >> s) | (c << vec4u(1u) << (vec4u(31u) - s));
    }
    return found;
}

// The distance at each position, ABSENT where it is no hit.
fn distances(w: ptr<function, Window>, at: u32, pattern: u32) -> vec4u {
    let here = pattern * LEN;
    var low = vec4u();
    var high = vec4u();
    for (var q = 0u; q < PLANES; q++) {
        low = seen(low, (*w).low[q], patterns[here + HEAD + 2u * q]);
        high = seen(high, (*w).high[q], patterns[here + HEAD + 2u * q + 1u]);
    }
    low = mismatches(low) & vec4u(patterns[here + 2u]);
    high = mismatches(high) & vec4u(patterns[here + 3u]);
    if (WILD) {
        low &= (*w).low[KEPT];
        high &= (*w).high[KEPT];
    }
    let d = countOneBits(low) + countOneBits(high);
    let wrong = (low & vec4u(patterns[here + 4u])) | (high & vec4u(patterns[here + 5u]));
    let position = vec4u(at) + vec4u(0u, 1u, 2u, 3u);
    let inside = (position < vec4u(p.positions)) & (position + vec4u(patterns[here]) <= vec4u(p.symbols));
    let hit = inside & (d <= vec4u(patterns[here + 1u])) & (wrong == vec4u());
    return select(vec4u(ABSENT), d, hit);
}
