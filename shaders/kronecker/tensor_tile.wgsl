// Third-order attention by tiles of ROWS rows and COLUMNS columns in workgroup memory, by 128 invocations. Scores: 4 rows, AY apart,
// by 4 columns, AX apart. Sums: TX chunks of 4 channels by TY sets of O_ROWS neighbouring rows.
const LANES: u32 = 128u;
const COLUMNS: u32 = 32u;
const AX: u32 = 8u;
const AY: u32 = 16u;
const TY: u32 = LANES / TX;
const O_ROWS: u32 = ROWS / TY;

// Slabs of SLAB chunks of rows and of columns, a place to spare after each; then slabs of HELD columns in the order of the weights.
const ROW_STRIDE: u32 = ROWS + 1u;
const COLUMN_STRIDE: u32 = COLUMNS + 1u;
const ARENA_Z: u32 = SLAB * ROW_STRIDE;
const HELD: u32 = min(256u / TX, COLUMNS);
var<workgroup> arena: array<vec4f, max(ARENA_Z + SLAB * COLUMN_STRIDE, max(HELD * TX, LANES))>;

// weights[n * ROW_STRIDE + row]: of columns n, n + AX, n + 2 AX, n + 3 AX.
var<workgroup> weights: array<vec4f, AX * ROW_STRIDE>;

// What is added to the scores of each row.
var<workgroup> shares: array<f32, ROWS>;

// Products of 4 rows with 4 columns.
var<private> a: array<vec4f, 4>;

// Rows in memory of the owner, the partner and the column that this invocation stages.
var<private> at_x: u32;
var<private> at_y: u32;
var<private> at_z: u32;

fn enter(here: Place, lid: u32) {
    at_x = owner_row(here, lid % ROWS);
}

fn enter_block(here: Place, y0: u32, lid: u32) {
    at_y = partner_row(here, y0, lid % ROWS);
    if (SHARES) {
        workgroupBarrier();
        if (lid < ROWS) {
            var sum = 0.0;
            for (var c = 0u; c < key_chunks(); c++) {
                sum += share(load_x(at_x, c), load_y(at_y, c));
            }
            shares[lid] = sum;
        }
        workgroupBarrier();
    }
}

fn enter_tile(here: Place, z0: u32, lid: u32) {
    at_z = column_row(here, z0 + lid % COLUMNS);
}

fn clear() {
    for (var i = 0u; i < 4u; i++) {
        a[i] = vec4f();
    }
}

// a += rows times columns of the slab in the arena.
fn multiply(lid: u32) {
    let ax = lid % AX;
    let ay = lid / AX;
    for (var c = 0u; c < SLAB; c++) {
        let z0 = arena[ARENA_Z + c * COLUMN_STRIDE + ax];
        let z1 = arena[ARENA_Z + c * COLUMN_STRIDE + ax + AX];
        let z2 = arena[ARENA_Z + c * COLUMN_STRIDE + ax + 2u * AX];
        let z3 = arena[ARENA_Z + c * COLUMN_STRIDE + ax + 3u * AX];
        for (var i = 0u; i < 4u; i++) {
            let row = arena[c * ROW_STRIDE + ay + AY * i];
            a[i] += dots(row, z0, z1, z2, z3);
        }
    }
}

// a = scores, unscaled.
fn multiply_keys(lid: u32) {
    clear();
    for (var slab = 0u; slab < key_chunks(); slab += SLAB) {
        workgroupBarrier();
        for (var c = lid / ROWS; c < SLAB; c += LANES / ROWS) {
            arena[c * ROW_STRIDE + lid % ROWS] = combine(load_x(at_x, slab + c), load_y(at_y, slab + c));
        }
        for (var c = lid / COLUMNS; c < SLAB; c += LANES / COLUMNS) {
            arena[ARENA_Z + c * COLUMN_STRIDE + lid % COLUMNS] = load_z(at_z, slab + c);
        }
        workgroupBarrier();
        multiply(lid);
    }
    if (SHARES) {
        for (var i = 0u; i < 4u; i++) {
            a[i] += shares[lid / AX + AY * i];
        }
    }
}

// The columns that this invocation's i-th row of the scores sees.
fn seen_by(here: Place, y0: u32, lid: u32, i: u32) -> vec2u {
    let row = lid / AX + AY * i;
    return seen(owner(here, row), partner(y0, row));
}

// Which of this invocation's columns those are.
fn mask(span: vec2u, z0: u32, lid: u32) -> vec4<bool> {
    let column = vec4u(z0 + lid % AX) + vec4u(0u, AX, 2u * AX, 3u * AX);
    return (vec4u(span.x) <= column) & (column < vec4u(span.y));
}

fn put_weights(lid: u32, i: u32, w: vec4f) {
    weights[lid % AX * ROW_STRIDE + lid / AX + AY * i] = w;
}

fn column_chunk(of_values: bool, row: u32, chunk: u32) -> vec4f {
    if (of_values) {
        return load_zv(row, chunk);
    }
    return load_z(row, chunk);
}

// sums += weights times columns, TX chunks from `chunk` on.
fn weigh(of_values: bool, here: Place, z0: u32, chunk: u32, lid: u32, sums: ptr<function, array<vec4f, O_ROWS>>) {
    let tx = lid % TX;
    let row = lid / TX * O_ROWS;
    for (var held = 0u; held < COLUMNS; held += HELD) {
        workgroupBarrier();
        for (var e = lid; e < HELD * TX; e += LANES) {
            let n = held + e / TX;
            arena[e] = column_chunk(of_values, column_row(here, z0 + n / 4u + AX * (n % 4u)), chunk + e % TX);
        }
        workgroupBarrier();
        for (var n = 0u; n < HELD / 4u; n++) {
            let v0 = arena[4u * n * TX + tx];
            let v1 = arena[(4u * n + 1u) * TX + tx];
            let v2 = arena[(4u * n + 2u) * TX + tx];
            let v3 = arena[(4u * n + 3u) * TX + tx];
            for (var i = 0u; i < O_ROWS; i++) {
                let w = weights[(held / 4u + n) * ROW_STRIDE + row + i];
                (*sums)[i] = add_row((*sums)[i], w, v0, v1, v2, v3);
            }
        }
    }
}
