// Distances for software adapters, ROWS rows a lane with KEYS keys: a workgroup is one subgroup. Codes of keys are read one key a lane
// and passed round by shuffles, because a software adapter serves each lane's load by itself.
const HELD: u32 = KEYS / LANES;
const QUADS: u32 = KEYS / 4u;

// Of the rows row + r*LANES + lane and four keys a vector, QUADS vectors a row.
fn distances(row: u32, key: u32, lane: u32, d: ptr<function, array<vec4u, ROWS * QUADS>>) {
    for (var i = 0u; i < ROWS * QUADS; i++) {
        (*d)[i] = vec4u();
    }
    for (var w = 0u; w < p.words; w++) {
        let mask = select(0xffffffffu, p.last, w + 1u == p.words);
        var query: array<u32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            query[r] = a[p.a_offset + min(row + r * LANES + lane, p.a_len - 1u) * p.words + w] & mask;
        }
        for (var i = 0u; i < HELD; i++) {
            let held = b[p.b_offset + min(key + i * LANES + lane, p.b_len - 1u) * p.words + w] & mask;
            for (var n = 0u; n < LANES / 4u; n++) {
                let x = vec4u(subgroupShuffle(held, 4u * n), subgroupShuffle(held, 4u * n + 1u), subgroupShuffle(held, 4u * n + 2u), subgroupShuffle(held, 4u * n + 3u));
                for (var r = 0u; r < ROWS; r++) {
                    (*d)[r * QUADS + i * (LANES / 4u) + n] += count(vec4u(query[r]), x);
                }
            }
        }
    }
}

// What a row sees, and where four keys stand in it.
fn sight(s: Span, row: u32) -> vec3u {
    return select(vec3u(), interval(s, min(row, s.rows - 1u)), row < s.rows);
}

fn visible(sees: vec3u, j: vec4u) -> vec4<bool> {
    return ((j >= vec4u(sees.x)) & (j < vec4u(sees.y))) | (j < vec4u(sees.z));
}
