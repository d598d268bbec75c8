// Segments without decay.
fn segment_total(segment: u32, row: u32, column: u32, left: u32) -> vec4f {
    return vec4f();
}
