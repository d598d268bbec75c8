// Operands of `state`: queries, less the landmark of the row.
fn operand(here: Place, t: u32, channel: u32) -> vec4f {
    return load_q(here, t, channel);
}

fn own_of(here: Place, a: u32, channel: u32) -> vec4f {
    return load_l(here, a, channel);
}
