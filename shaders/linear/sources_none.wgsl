// Nothing is added to the state.
const SOURCES: bool = false;

fn source_row(row: u32, r: u32, live: bool) -> vec4f {
    return vec4f();
}

fn source_column(row: u32, column: u32, live: bool) -> vec4f {
    return vec4f();
}
