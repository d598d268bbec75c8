// A feature of `map_pairs`.
fn product(home: u32, f: u32) -> f32 {
    var out = 1.0;
    if (SERIES && f > 0u && f < SQUARES) {
        out = LINEAR * staged[home + f - 1u];
    }
    if (f >= SQUARES && f < SQUARES + KEY) {
        let v = staged[home + f - SQUARES];
        out = SQUARE * v * v;
    }
    if (f >= SQUARES + KEY) {
        // The pairs are a triangle: its row by a root, which rounding may put one off.
        let n = f - SQUARES - KEY;
        let side = f32(2u * KEY - 1u);
        var i = min(u32(0.5 * (side - sqrt(max(side * side - 8.0 * f32(n), 0.0)))), max(KEY, 2u) - 2u);
        i = select(i, i - 1u, i > 0u && pairs_before(i) > n);
        i = select(i, i + 1u, pairs_before(i + 1u) <= n);
        let j = i + 1u + n - pairs_before(i);
        out = PRODUCT * staged[home + i] * staged[home + j];
    }
    return out;
}
