// Plain arithmetic in place of matrix units, with the interface of `native`: kernels are tested with it on devices that have none.
// An invocation has every LANES-th element of the sums; factors are read when they are multiplied. Nobody knows how often loops turn
// before they run, and so nobody unrolls them: kernels would take minutes to compile.
//
// Asks for: var<workgroup> halves: array<f16, ..>, wide: array<f32, ..>.

struct Left {
    at: u32,
    row: u32,
    step: u32,
}

struct Right {
    at: u32,
    step: u32,
    column: u32,
}

alias Sums = array<f32, SIDE * SIDE / LANES>;

fn no_sums() -> Sums {
    return Sums();
}

fn left_by_rows(at: u32, stride: u32) -> Left {
    return Left(at, stride, 1u);
}

fn left_by_columns(at: u32, stride: u32) -> Left {
    return Left(at, 1u, stride);
}

fn right_by_rows(at: u32, stride: u32) -> Right {
    return Right(at, stride, 1u);
}

fn right_by_columns(at: u32, stride: u32) -> Right {
    return Right(at, 1u, stride);
}

fn add_product(a: Left, b: Right, sums: Sums, lane: u32) -> Sums {
    var more = sums;
    for (var e = lane; e < SIDE * SIDE; e += LANES) {
        let row = a.at + e / SIDE * a.row;
        let column = b.at + e % SIDE * b.column;
        var sum = 0.0;
        var other = column;
        for (var at = row; at < row + SIDE * a.step; at += a.step) {
            sum += f32(halves[at]) * f32(halves[other]);
            other += b.step;
        }
        more[e / LANES] += sum;
    }
    return more;
}

fn keep_sums(at: u32, stride: u32, sums: Sums, lane: u32) {
    for (var e = lane; e < SIDE * SIDE; e += LANES) {
        wide[at + e / SIDE * stride + e % SIDE] = sums[e / LANES];
    }
}

fn take_sums(at: u32, stride: u32, lane: u32) -> Sums {
    var sums: Sums;
    for (var e = lane; e < SIDE * SIDE; e += LANES) {
        sums[e / LANES] = wide[at + e / SIDE * stride + e % SIDE];
    }
    return sums;
}
