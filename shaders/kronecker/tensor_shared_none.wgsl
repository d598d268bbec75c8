// Each unit has partners and columns of its own.
fn y_unit(unit: u32) -> u32 {
    return unit * p.y_len;
}

fn z_unit(unit: u32) -> u32 {
    return unit * p.z_len;
}
