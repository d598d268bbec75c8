// What is summed and attended: rows that an earlier step left.
fn source(head: u32, t: u32, q: u32) -> vec4f {
    return row_of(head, t, q);
}
