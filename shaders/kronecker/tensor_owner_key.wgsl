// Owners are keys of one kind, partners queries, columns keys of the other kind.
//
// Query at place t sees owners t - row_behind < j <= t + row_ahead, and columns likewise.
fn x_row(j: u32) -> u32 {
    return j;
}

fn y_row(u: u32) -> u32 {
    return query_row(u, p.y_len);
}

// The partners that see some of the owners x0 to x1.
fn y_span(x0: u32, x1: u32) -> vec2u {
    let shift = bitcast<i32>(p.shift);
    let tokens = interval(i32(x0) - i32(p.row_ahead) - shift, i32(x1) + i32(p.row_behind) - shift, p.y_len / p.group);
    return tokens * p.group;
}

// The columns that rows of owners x0 to x1 and partners y0 to y1 see.
fn z_span(x0: u32, x1: u32, y0: u32, y1: u32) -> vec2u {
    return interval(place_of(y0) - i32(p.column_behind) + 1, place_of(y1) + i32(p.column_ahead) + 1, p.z_len);
}

// The columns that a row sees.
fn seen(j: u32, u: u32) -> vec2u {
    let at = place_of(u);
    let live = j < p.x_len && u < p.y_len && at - i32(p.row_behind) < i32(j) && i32(j) <= at + i32(p.row_ahead);
    return select(vec2u(), z_span(j, j, u, u), live);
}

// Of the query of a row.
fn query_of(here: Place, y0: u32, row: u32) -> u32 {
    return partner_row(here, y0, row);
}
