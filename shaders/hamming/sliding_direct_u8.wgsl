// Four bytes of the pattern at a time; those that count have the top bit set in the second word.
const LOW: u32 = 0x7f7f7f7fu;

fn word(w: u32) -> u32 {
    return text[min(w, (p.symbols - 1u) / 4u)];
}

// The top bits of those of the four bytes from symbol 4w + n on that are not wild.
fn tops(w: u32, n: u32) -> u32 {
    let at = 4u * w + n;
    let s = at % 32u;
    let bits = (tame(at / 32u) >> s) | ((tame(at / 32u + 1u) << 1u) << (31u - s));
    return (((bits & 15u) * 0x00204081u) & 0x01010101u) << 7u;
}

fn compare(at: u32) -> vec4u {
    let w = at / 4u;
    var counts = vec4u();
    var now = word(w + p.begin);
    for (var u = p.begin; u < p.end; u++) {
        let next = word(w + u + 1u);
        let want = pattern[u - p.begin];
        let here = vec4u(now, (now >> 8u) | (next << 24u), (now >> 16u) | (next << 16u), (now >> 24u) | (next << 8u));
        let x = here ^ vec4u(want.x);
        var mismatches = (((x & vec4u(LOW)) + vec4u(LOW)) | x) & vec4u(want.y);
        if (WILD) {
            mismatches &= vec4u(tops(w + u, 0u), tops(w + u, 1u), tops(w + u, 2u), tops(w + u, 3u));
        }
        counts += countOneBits(mismatches);
        now = next;
    }
    return counts;
}
