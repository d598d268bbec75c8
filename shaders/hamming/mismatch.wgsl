// Distances of short patterns at the four positions of a lane. A position's window holds the 32*WORDS symbols from it on.
//
// 0 text: array<u32>, ROWS planes of p.stride words
// 1 patterns: array<u32>, LEN words a pattern: its length, the most mismatches, then for every 32 symbols a word of those that
// count, one of those that must match, and one of each plane
@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> patterns: array<u32>;

const LEN: u32 = 2u + WORDS * (2u + PLANES);
// The row of symbols that are not wild, where there is one.
const KEPT: u32 = ROWS - 1u;
const ABSENT: u32 = 0xffffffffu;

// The planes of the first 32 symbols, then of the next.
alias Window = array<vec4u, ROWS * WORDS>;

fn window(at: u32) -> Window {
    var found: Window;
    let s = vec4u(at % 32u) + vec4u(0u, 1u, 2u, 3u);
    let last = p.stride - 1u;
    for (var q = 0u; q < ROWS; q++) {
        for (var h = 0u; h < WORDS; h++) {
            let w = at / 32u + h;
            let a = vec4u(text[q * p.stride + min(w, last)]);
            let b = vec4u(text[q * p.stride + min(w + 1u, last)]);
            found[h * ROWS + q] = (a >> s) | ((b << vec4u(1u)) << (vec4u(31u) - s));
        }
    }
    return found;
}

// The distance at each position, ABSENT where it is no hit.
fn distances(w: ptr<function, Window>, at: u32, pattern: u32) -> vec4u {
    let head = pattern * LEN;
    var d = vec4u();
    var wrong = vec4u();
    for (var h = 0u; h < WORDS; h++) {
        let here = head + 2u + h * (2u + PLANES);
        var x = vec4u();
        for (var q = 0u; q < PLANES; q++) {
            x = seen(x, (*w)[h * ROWS + q], patterns[here + 2u + q]);
        }
        x = mismatches(x) & vec4u(patterns[here]);
        if (WILD) {
            x &= (*w)[h * ROWS + KEPT];
        }
        d += countOneBits(x);
        wrong |= x & vec4u(patterns[here + 1u]);
    }
    let position = vec4u(at) + vec4u(0u, 1u, 2u, 3u);
    let inside = (position < vec4u(p.positions)) & (position + vec4u(patterns[head]) <= vec4u(p.symbols));
    let hit = inside & (d <= vec4u(patterns[head + 1u])) & (wrong == vec4u());
    return select(vec4u(ABSENT), d, hit);
}
