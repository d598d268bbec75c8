// Operands of sums over tokens: queries, less the landmark of the row.
fn operand(here: Place, t: u32, channel: u32) -> vec4f {
    return load_q(here, t, channel);
}

fn own_of(here: Place, a: u32, channel: u32) -> vec4f {
    return load_l(here, a, channel);
}

fn term(x: vec4f, own: vec4f) -> vec4f {
    return x - own;
}

// Products of rows and others, over both sides: the gradient of o with Y, v with dX.
fn row_side(here: Place, side: u32, a: u32, channel: u32) -> vec4f {
    return load_y(here, a, side * p.value, channel);
}

fn other_side(here: Place, side: u32, t: u32, channel: u32) -> vec4f {
    if (side == 0u) {
        return load_d(here, t, channel);
    }
    return load_v(here, t, channel);
}
