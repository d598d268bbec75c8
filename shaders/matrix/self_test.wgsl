// What is asked of matrix units, once each: every unit u of UNITS multiplies its own squares A and B, both ways round, and adds C.
//
//   0: C + A B      1: C + A^T B      2: C + A B^T      3: C + A^T B^T
//
// 0 given: array<f32>, A, B and C of each unit, row-major        1 found: array<f32>, the four results of each unit
@group(0) @binding(0) var<storage, read> given: array<f32>;
@group(0) @binding(1) var<storage, read_write> found: array<f32>;

const SQUARE: u32 = SIDE * SIDE;
const THREADS: u32 = UNITS * LANES;

var<workgroup> halves: array<f16, 2u * UNITS * SQUARE>;
var<workgroup> wide: array<f32, UNITS * SQUARE>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    for (var e = lid; e < 2u * UNITS * SQUARE; e += THREADS) {
        halves[e] = f16(given[e / (2u * SQUARE) * 3u * SQUARE + e % (2u * SQUARE)]);
    }
    // Where subgroups are smaller than they were taken for, there are more than there are squares.
    let unit = min(subgroup, UNITS - 1u);
    let a = unit * 2u * SQUARE;
    let b = a + SQUARE;
    for (var turn = 0u; turn < 4u; turn++) {
        workgroupBarrier();
        for (var e = lid; e < UNITS * SQUARE; e += THREADS) {
            wide[e] = given[e / SQUARE * 3u * SQUARE + 2u * SQUARE + e % SQUARE];
        }
        workgroupBarrier();
        var sums = take_sums(unit * SQUARE, SIDE, lane);
        if (turn == 0u) {
            sums = add_product(left_by_rows(a, SIDE), right_by_rows(b, SIDE), sums, lane);
        } else if (turn == 1u) {
            sums = add_product(left_by_columns(a, SIDE), right_by_rows(b, SIDE), sums, lane);
        } else if (turn == 2u) {
            sums = add_product(left_by_rows(a, SIDE), right_by_columns(b, SIDE), sums, lane);
        } else {
            sums = add_product(left_by_columns(a, SIDE), right_by_columns(b, SIDE), sums, lane);
        }
        workgroupBarrier();
        keep_sums(unit * SQUARE, SIDE, sums, lane);
        workgroupBarrier();
        for (var e = lid; e < UNITS * SQUARE; e += THREADS) {
            found[(e / SQUARE * 4u + turn) * SQUARE + e % SQUARE] = wide[e];
        }
    }
}
