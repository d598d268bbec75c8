// [1, LINEAR x_i] where SERIES, then SQUARE x_i^2, then PRODUCT x_i x_j for i < j, row by row.
const SQUARES: u32 = select(0u, 1u + KEY, SERIES);

// Features i, j with j > i begin here in the order of pairs.
fn pairs_before(i: u32) -> u32 {
    return i * (2u * KEY - i - 1u) / 2u;
}
