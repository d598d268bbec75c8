// Parameters of a pass over one axis: x[l, t, r] to z[l, j, r].
struct Params {
    p: u32,
    q: u32,
    r: u32,
    // The first unit l.
    first_unit: u32,
    first: u32,
    groups: u32,
    f_offset: u32,
    f_t: u32,
    f_j: u32,
    f_batch: u32,
    // Columns that share a factor, and the first ones' place among those.
    set_columns: u32,
    f_set: u32,
    x_first: u32,
    x_offset: u32,
    x_width: u32,
    x_rows: u32,
    x_row: u32,
    x_batch: u32,
    z_first: u32,
    z_offset: u32,
    z_width: u32,
    z_rows: u32,
    z_row: u32,
    z_batch: u32,
    alpha: f32,
    beta: f32,
}
var<immediate> p: Params;
