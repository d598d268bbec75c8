// What is summed and attended: values.
fn source(head: u32, t: u32, q: u32) -> vec4f {
    return value_of(head, t, q);
}
