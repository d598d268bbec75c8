// All units have the same columns.
fn y_unit(unit: u32) -> u32 {
    return unit * p.y_len;
}

fn z_unit(unit: u32) -> u32 {
    return 0u;
}
