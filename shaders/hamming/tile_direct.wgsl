// Pairs of a tile, TILE rows of a with TILE columns of b, without workgroup memory, for devices where barriers are dear.
//
// Asks for and gives the same as `tile_staged`.
const SIDE: u32 = TILE / 4u;

fn tile(first_row: u32, first_column: u32, lid: u32, d: ptr<function, array<vec4u, 4>>) {
    let four = vec4u(0u, 1u, 2u, 3u);
    let row = min(vec4u(first_row + 4u * (lid / SIDE)) + four, vec4u(p.a_len - 1u));
    let column = min(vec4u(first_column + 4u * (lid % SIDE)) + four, vec4u(p.b_len - 1u));
    var i = p.a_offset + row * p.words;
    var j = p.b_offset + column * p.words;
    var d0 = vec4u();
    var d1 = vec4u();
    var d2 = vec4u();
    var d3 = vec4u();
    for (var w = 0u; w < p.words; w++) {
        let mask = vec4u(select(0xffffffffu, p.last, w + 1u == p.words));
        let x = vec4u(a[i.x], a[i.y], a[i.z], a[i.w]) & mask;
        let y = vec4u(b[j.x], b[j.y], b[j.z], b[j.w]) & mask;
        d0 += count(vec4u(x.x), y);
        d1 += count(vec4u(x.y), y);
        d2 += count(vec4u(x.z), y);
        d3 += count(vec4u(x.w), y);
        i += vec4u(1u);
        j += vec4u(1u);
    }
    (*d)[0] = d0;
    (*d)[1] = d1;
    (*d)[2] = d2;
    (*d)[3] = d3;
}
