// Key and query rows read one token a lane and passed round by shuffles: a software adapter serves each lane's load by
// itself, so one load is spread over all of them. The workgroup is one subgroup of LANES invocations.
const HELD: u32 = (TOKENS + LANES - 1u) / LANES;

struct Rows {
    k: array<vec4f, HELD>,
    q: array<vec4f, HELD>,
}

fn hold_rows(lane: u32, at: u32, first: u32, r: u32) -> Rows {
    var rows: Rows;
    for (var i = 0u; i < HELD; i++) {
        rows.k[i] = load_k(at, first + i * LANES + lane, r);
        rows.q[i] = load_q(at, first + i * LANES + lane, r);
    }
    return rows;
}

fn key_row(rows: Rows, t: u32) -> vec4f {
    return subgroupShuffle(rows.k[t / LANES], t % LANES);
}

fn query_row(rows: Rows, t: u32) -> vec4f {
    return subgroupShuffle(rows.q[t / LANES], t % LANES);
}

// One set of lanes has all rows.
fn first_row(row_group: u32) -> u32 {
    return 0u;
}
