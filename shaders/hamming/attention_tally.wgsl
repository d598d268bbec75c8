// Counts over pairs, TILE rows a group: of every distance, of keys at the cut-off, or the distance of the heaviest key.
//
// Everything counted is an integer, added or compared by atomics: the order cannot show.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let place = p.first + min(index, p.groups - 1u);
    let split = place % p.splits;
    let tile_index = place / p.splits;
    let s = span_of(p.tile_base + tile_index);
    let walk = walk_of(s, split * p.split_len, p.split_len, index < p.groups);
    let row = 4u * (lid / SIDE);
    look(s, s.row + row);
    for (var i = 0u; i < 4u; i++) {
        open(s, i, s.row + row + i, tile_index * TILE + row + i);
    }
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + TILE)) {
        var d: array<vec4u, 4>;
        tile(row_of(s, s.row), s.kv * p.capacity + first, lid, &d);
        let j = vec4u(first + 4u * (lid % SIDE)) + vec4u(0u, 1u, 2u, 3u);
        for (var i = 0u; i < 4u; i++) {
            count_row(s, i, tile_index * TILE + row + i, j, d[i], seen(i, j));
        }
    }
    for (var i = 0u; i < 4u; i++) {
        close(i, tile_index * TILE + row + i);
    }
}
