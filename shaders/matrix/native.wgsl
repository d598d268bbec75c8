// Squares of SIDE x SIDE on the matrix units of a GPU: f16 from `halves`, sums in f32, to and from `wide`. The invocations of a
// subgroup call these functions together and with the same arguments.
//
// Asks for: var<workgroup> halves: array<f16, ..>, wide: array<f32, ..>; Left, Right and Sums of a square part.

fn no_sums() -> Sums {
    return Sums();
}

// A[i, k] = halves[at + i * stride + k]
fn left_by_rows(at: u32, stride: u32) -> Left {
    return coopLoadT<Left>(&halves[at], stride);
}

// A[i, k] = halves[at + k * stride + i]
fn left_by_columns(at: u32, stride: u32) -> Left {
    return coopLoad<Left>(&halves[at], stride);
}

// B[k, j] = halves[at + k * stride + j]
fn right_by_rows(at: u32, stride: u32) -> Right {
    return coopLoadT<Right>(&halves[at], stride);
}

// B[k, j] = halves[at + j * stride + k]
fn right_by_columns(at: u32, stride: u32) -> Right {
    return coopLoad<Right>(&halves[at], stride);
}

// sums + A B
fn add_product(a: Left, b: Right, sums: Sums, lane: u32) -> Sums {
    return coopMultiplyAdd(a, b, sums);
}

// wide[at + i * stride + j] = sums[i, j]
fn keep_sums(at: u32, stride: u32, sums: Sums, lane: u32) {
    coopStoreT(sums, &wide[at], stride);
}

// sums[i, j] = wide[at + i * stride + j]
fn take_sums(at: u32, stride: u32, lane: u32) -> Sums {
    return coopLoadT<Sums>(&wide[at], stride);
}
