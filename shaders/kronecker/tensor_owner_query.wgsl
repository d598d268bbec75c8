// Owners are queries, partners and columns keys.
//
// Query at place t sees partners t - row_behind < j <= t + row_ahead, and columns likewise.
fn x_row(u: u32) -> u32 {
    return query_row(u, p.x_len);
}

fn y_row(j: u32) -> u32 {
    return j;
}

// The partners that owners x0 to x1 see.
fn y_span(x0: u32, x1: u32) -> vec2u {
    return interval(place_of(x0) - i32(p.row_behind) + 1, place_of(x1) + i32(p.row_ahead) + 1, p.y_len);
}

// The columns that rows of owners x0 to x1 and partners y0 to y1 see.
fn z_span(x0: u32, x1: u32, y0: u32, y1: u32) -> vec2u {
    return interval(place_of(x0) - i32(p.column_behind) + 1, place_of(x1) + i32(p.column_ahead) + 1, p.z_len);
}

// The columns that a row sees.
fn seen(u: u32, j: u32) -> vec2u {
    let partners = y_span(u, u);
    let live = u < p.x_len && partners.x <= j && j < partners.y;
    return select(vec2u(), z_span(u, u, j, j), live);
}

// Of the query of a row.
fn query_of(here: Place, y0: u32, row: u32) -> u32 {
    return owner_row(here, row);
}
