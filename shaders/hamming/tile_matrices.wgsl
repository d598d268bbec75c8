// Pairs of a tile, TILE rows of a with TILE columns of b, by matrix units: UNITS subgroups of LANES invocations, each with ROWS squares
// of rows by all of columns. A word of each code is 32 halves at a time, and d_ij comes of products of these, whole numbers below 2^24:
//
//   SIGNED: bits are 1 and -1, pads 0, bits that differ are (bits - a_i . b_j) / 2       else: bits are 0 and 1, common ones a_i . b_j
//
// Asks for: p.a_offset, p.b_offset, p.a_len, p.b_len, p.words, p.last; bindings a and b, array<u32>; place(index) and emit(i, j, d) of
// an epilogue; the functions on squares.
const THREADS: u32 = UNITS * LANES;
const ROWS: u32 = TILE / UNITS / SIDE;
const COLUMNS: u32 = TILE / SIDE;
const SQUARE: u32 = SIDE * SIDE;
// Halves from code to code, of a and then of b: eight to spare, which spreads them over the banks.
const STRIDE: u32 = 40u;
var<workgroup> halves: array<f16, 2u * TILE * STRIDE>;
var<workgroup> wide: array<f32, UNITS * SQUARE>;

fn unpack_word(at: u32, word: u32, counted: u32) {
    for (var bit = 0u; bit < 32u; bit++) {
        let on = f32((word >> bit) & 1u);
        let value = select(on, 1.0 - 2.0 * on, SIGNED);
        halves[at + bit] = f16(select(0.0, value, ((counted >> bit) & 1u) == 1u));
    }
}

fn pairs(first_row: u32, first_column: u32, lid: u32, unit: u32, lane: u32) {
    let own = unit * ROWS * SIDE;
    var sums: array<Sums, ROWS * COLUMNS>;
    for (var n = 0u; n < ROWS * COLUMNS; n++) {
        sums[n] = no_sums();
    }
    for (var w = 0u; w < p.words; w++) {
        let counted = select(0xffffffffu, p.last, w + 1u == p.words);
        workgroupBarrier();
        for (var e = lid; e < TILE; e += THREADS) {
            unpack_word(e * STRIDE, a[p.a_offset + min(first_row + e, p.a_len - 1u) * p.words + w], counted);
            unpack_word((TILE + e) * STRIDE, b[p.b_offset + min(first_column + e, p.b_len - 1u) * p.words + w], counted);
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
            for (var r = 0u; r < ROWS; r++) {
                let left = left_by_rows((own + r * SIDE) * STRIDE + k, STRIDE);
                for (var c = 0u; c < COLUMNS; c++) {
                    let right = right_by_columns((TILE + c * SIDE) * STRIDE + k, STRIDE);
                    sums[r * COLUMNS + c] = add_product(left, right, sums[r * COLUMNS + c], lane);
                }
            }
        }
    }
    let bits = f32((p.words - 1u) * 32u + countOneBits(p.last));
    for (var n = 0u; n < ROWS * COLUMNS; n++) {
        workgroupBarrier();
        keep_sums(unit * SQUARE, SIDE, sums[n], lane);
        workgroupBarrier();
        for (var e = 4u * lane; e < SQUARE; e += 4u * LANES) {
            let at = unit * SQUARE + e;
            let found = vec4f(wide[at], wide[at + 1u], wide[at + 2u], wide[at + 3u]);
            let d = select(found, 0.5 * (vec4f(bits) - found), SIGNED);
            emit(first_row + own + n / COLUMNS * SIDE + e / SIDE, first_column + n % COLUMNS * SIDE + e % SIDE, vec4u(d));
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) grid: vec3u,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) unit: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let here = place(group_index(group, grid));
    if (here.z == 1u) {
        pairs(here.x * TILE, here.y * TILE, lid, unit, lane);
    }
}
