// One pair of sources.
const PAIRS: u32 = 1u;
// What the delta rule's state knows of a value is taken off it, and what is left added.
const MISSES: f32 = 1.0;

fn second_row(row: u32, r: u32) -> vec4f {
    return vec4f();
}

fn column_of_pair(m: u32, row: u32, column: u32, live: bool) -> vec4f {
    return source_column(row, column, live);
}

fn carried(row: u32, column: u32) -> vec4f {
    return vec4f();
}
