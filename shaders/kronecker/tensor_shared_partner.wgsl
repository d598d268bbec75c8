// All units have the same partners.
fn y_unit(unit: u32) -> u32 {
    return 0u;
}

fn z_unit(unit: u32) -> u32 {
    return unit * p.z_len;
}
