// Key and query rows read where they are used: every lane reads one address, which GPUs serve at once.
struct Rows {
    at: u32,
    first: u32,
    r: u32,
}

fn hold_rows(lane: u32, at: u32, first: u32, r: u32) -> Rows {
    return Rows(at, first, r);
}

fn key_row(rows: Rows, t: u32) -> vec4f {
    return load_k(rows.at, rows.first + t, rows.r);
}

fn query_row(rows: Rows, t: u32) -> vec4f {
    return load_q(rows.at, rows.first + t, rows.r);
}

// The first row of a set of lanes.
fn first_row(row_group: u32) -> u32 {
    return row_group;
}
