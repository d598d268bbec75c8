// One pair of sources.
const PAIRS: u32 = 1u;

fn second_row(row: u32, r: u32) -> vec4f {
    return vec4f();
}

fn column_of_pair(m: u32, row: u32, column: u32, live: bool) -> vec4f {
    return source_column(row, column, live);
}
