// One symbol of the pattern at a time; the second word is 1 where it counts.
fn symbol(i: u32) -> u32 {
    return text[min(i, p.symbols - 1u)];
}

fn live_at(i: u32) -> u32 {
    return (tame(i / 32u) >> (i % 32u)) & 1u;
}

fn compare(at: u32) -> vec4u {
    var counts = vec4u();
    let i = at + p.begin;
    var symbols = vec4u(symbol(i), symbol(i + 1u), symbol(i + 2u), 0u);
    var live = vec4u(1u);
    if (WILD) {
        live = vec4u(live_at(i), live_at(i + 1u), live_at(i + 2u), 0u);
    }
    for (var u = p.begin; u < p.end; u++) {
        let want = pattern[u - p.begin];
        symbols.w = symbol(at + u + 3u);
        if (WILD) {
            live.w = live_at(at + u + 3u);
        }
        counts += select(vec4u(), live & vec4u(want.y), symbols != vec4u(want.x));
        symbols = symbols.yzww;
        live = live.yzww;
    }
    return counts;
}
