// What the kernels of the causal form share. A table is transformed along half of the code's bits: its row (x, y) holds the sum over
// items with these y of their rows times the weight of the difference between x and theirs.
//
// 6 weights: array<f32>, of differences in x, then of those in y, weights[(first_table + table) % sets*(2^x_bits + 2^y_bits) + ..]
// 7 items: array<u32>, codes of items at items_offset + list*len + i
@group(0) @binding(6) var<storage, read> weights: array<f32>;
@group(0) @binding(7) var<storage, read> items: array<u32>;

// Where the weights of a table start.
fn weights_of(table: u32) -> u32 {
    return (p.first_table + table) % p.sets * ((1u << p.x_bits) + (1u << p.y_bits));
}

fn x_weight(start: u32, difference: u32) -> f32 {
    return weights[start + difference];
}

fn y_weight(start: u32, difference: u32) -> f32 {
    return weights[start + (1u << p.x_bits) + difference];
}

// The row (x, y) of a table.
fn half_row(table: u32, x: u32, y: u32) -> u32 {
    return table_row(table, (x << p.y_bits) | y);
}
