// Parameters of sums over columns (l, r): F[i, j] = alpha sum_(l, r) x[l, i, r] g[l, j, r], by sets of columns and by parts of each.
struct Params {
    p: u32,
    q: u32,
    r: u32,
    set_columns: u32,
    // Those of a set that are summed: from the first on, up to the last.
    first_column: u32,
    last_column: u32,
    part_columns: u32,
    parts: u32,
    first: u32,
    groups: u32,
    x_offset: u32,
    g_offset: u32,
    i_stride: u32,
    j_stride: u32,
    block: u32,
    alpha: f32,
}
var<immediate> p: Params;

// Where the columns of a part are.
struct Part {
    group: u32,
    // Among those of the set.
    first: u32,
    last: u32,
    // Where its sums go.
    sums: u32,
}

fn part_of(index: u32) -> Part {
    let first = p.first_column + index % p.parts * p.part_columns;
    return Part(index / p.parts, first, min(first + p.part_columns, p.last_column), index * p.block);
}
