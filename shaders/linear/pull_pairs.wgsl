// The gradient of a column of `map_pairs`.
fn pull(home: u32, row: u32, k: u32) -> f32 {
    var out = 2.0 * SQUARE * staged[home + k] * grad(row, SQUARES + k);
    if (SERIES) {
        out += LINEAR * grad(row, 1u + k);
    }
    var sum = 0.0;
    for (var j = 0u; j < KEY; j++) {
        if (j != k) {
            let i = min(j, k);
            sum += grad(row, SQUARES + KEY + pairs_before(i) + max(j, k) - i - 1u) * staged[home + j];
        }
    }
    return out + PRODUCT * sum;
}
