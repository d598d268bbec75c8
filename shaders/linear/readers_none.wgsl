// Nothing reads the state.
const READS: bool = false;

fn reader_row(row: u32, r: u32, live: bool) -> vec4f {
    return vec4f();
}
