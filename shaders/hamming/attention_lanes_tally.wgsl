// Counts over pairs for software adapters, TILE = ROWS * LANES rows a group: of every distance, of keys at the cut-off, or the distance
// of the heaviest key.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = p.first + min(index, p.groups - 1u);
    let split = place % p.splits;
    let tile_index = place / p.splits;
    let s = span_of(p.tile_base + tile_index);
    let walk = walk_of(s, split * p.split_len, p.split_len, index < p.groups);
    let slot = tile_index * TILE + lane;
    var sees: array<vec3u, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let row = s.row + r * LANES + lane;
        sees[r] = sight(s, row);
        open(s, r, row, slot + r * LANES);
    }
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + KEYS)) {
        var d: array<vec4u, ROWS * QUADS>;
        distances(row_of(s, s.row), s.kv * p.capacity + first, lane, &d);
        for (var r = 0u; r < ROWS; r++) {
            for (var n = 0u; n < QUADS; n++) {
                let j = vec4u(first + 4u * n) + vec4u(0u, 1u, 2u, 3u);
                count_row(s, r, slot + r * LANES, j, d[r * QUADS + n], visible(sees[r], j));
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        close(r, slot + r * LANES);
    }
}
