// Weights of a tile: C = exp(-|q - l|^2 scale).
fn weigh(here: Place, first: u32, mark: u32, lid: u32) {
    distances(here, first, mark, lid);
    for (var i = 0u; i < A_ROWS; i++) {
        near[i] = exp(-p.scale * near[i]);
    }
    put_weights(here, first, mark, lid);
}
