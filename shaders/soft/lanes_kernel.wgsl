// Weights of `lanes`: C.
fn weigh(here: Place, row: u32, first: u32, lane: u32) {
    weigh_kernel(here, row, first, lane);
}
