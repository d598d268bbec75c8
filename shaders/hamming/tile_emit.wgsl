// Pairs of a tile that `tile_staged` computes, four by four an invocation, to an epilogue's emit(i, j, d).
fn pairs(first_row: u32, first_column: u32, lid: u32) {
    var d: array<vec4u, 4>;
    tile(first_row, first_column, lid, &d);
    for (var i = 0u; i < 4u; i++) {
        emit(first_row + 4u * (lid / SIDE) + i, first_column + 4u * (lid % SIDE), d[i]);
    }
}
