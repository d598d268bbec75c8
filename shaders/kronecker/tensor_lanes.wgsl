// Third-order attention for software adapters: a workgroup is one subgroup, a lane owns EACH neighbouring rows. Columns are read one
// a lane and passed round by shuffles, because such an adapter serves each lane's load by itself. Sums accumulate in `parts`.
const EACH: u32 = ROWS / LANES;
const HELD: u32 = COLUMNS / LANES;
const QUADS: u32 = COLUMNS / 4u;

// Rows in memory of this lane's owners and partners.
var<private> at_x: array<u32, EACH>;
var<private> at_y: array<u32, EACH>;

fn enter(here: Place, lane: u32) {
    for (var r = 0u; r < EACH; r++) {
        at_x[r] = owner_row(here, lane * EACH + r);
    }
}

fn enter_block(here: Place, y0: u32, lane: u32) {
    for (var r = 0u; r < EACH; r++) {
        at_y[r] = partner_row(here, y0, lane * EACH + r);
    }
}

// s += products of four columns with this lane's rows, channel by channel.
fn multiply(held: vec4f, quad: u32, of_rows: ptr<function, array<vec4f, EACH>>, s: ptr<function, array<vec4f, EACH * QUADS>>) {
    for (var n = 0u; n < LANES / 4u; n++) {
        let z0 = subgroupShuffle(held, 4u * n);
        let z1 = subgroupShuffle(held, 4u * n + 1u);
        let z2 = subgroupShuffle(held, 4u * n + 2u);
        let z3 = subgroupShuffle(held, 4u * n + 3u);
        let c0 = vec4f(z0.x, z1.x, z2.x, z3.x);
        let c1 = vec4f(z0.y, z1.y, z2.y, z3.y);
        let c2 = vec4f(z0.z, z1.z, z2.z, z3.z);
        let c3 = vec4f(z0.w, z1.w, z2.w, z3.w);
        for (var r = 0u; r < EACH; r++) {
            let x = (*of_rows)[r];
            let at = r * QUADS + quad + n;
            (*s)[at] = add_row((*s)[at], x, c0, c1, c2, c3);
        }
    }
}

// s = scores, unscaled.
fn multiply_keys(here: Place, z0: u32, lane: u32, s: ptr<function, array<vec4f, EACH * QUADS>>) {
    var shares: array<f32, EACH>;
    for (var r = 0u; r < EACH; r++) {
        shares[r] = 0.0;
    }
    for (var i = 0u; i < EACH * QUADS; i++) {
        (*s)[i] = vec4f();
    }
    for (var c = 0u; c < key_chunks(); c++) {
        var of_rows: array<vec4f, EACH>;
        var of_x = load_x(at_x[0], c);
        var of_y = load_y(at_y[0], c);
        for (var r = 0u; r < EACH; r++) {
            if (r > 0u && !SAME_OWNER) {
                of_x = load_x(at_x[r], c);
            }
            if (r > 0u && !SAME_PARTNER) {
                of_y = load_y(at_y[r], c);
            }
            of_rows[r] = combine(of_x, of_y);
            shares[r] += share(of_x, of_y);
        }
        for (var i = 0u; i < HELD; i++) {
            multiply(load_z(column_row(here, z0 + i * LANES + lane), c), i * (LANES / 4u), &of_rows, s);
        }
    }
    if (SHARES) {
        for (var i = 0u; i < EACH * QUADS; i++) {
            (*s)[i] += shares[i / QUADS];
        }
    }
}

// The columns of quad n that a row sees.
fn mask(span: vec2u, z0: u32, n: u32) -> vec4<bool> {
    let column = vec4u(z0 + 4u * n) + vec4u(0u, 1u, 2u, 3u);
    return (vec4u(span.x) <= column) & (column < vec4u(span.y));
}

fn column_chunk(of_values: bool, row: u32, chunk: u32) -> vec4f {
    if (of_values) {
        return load_zv(row, chunk);
    }
    return load_z(row, chunk);
}

// Weights times columns: a chunk of channels.
fn weigh(of_values: bool, here: Place, z0: u32, chunk: u32, lane: u32, w: ptr<function, array<vec4f, EACH * QUADS>>) -> array<vec4f, EACH> {
    var sums: array<vec4f, EACH>;
    for (var r = 0u; r < EACH; r++) {
        sums[r] = vec4f();
    }
    for (var i = 0u; i < HELD; i++) {
        let held = column_chunk(of_values, column_row(here, z0 + i * LANES + lane), chunk);
        for (var n = 0u; n < LANES / 4u; n++) {
            let v0 = subgroupShuffle(held, 4u * n);
            let v1 = subgroupShuffle(held, 4u * n + 1u);
            let v2 = subgroupShuffle(held, 4u * n + 2u);
            let v3 = subgroupShuffle(held, 4u * n + 3u);
            for (var r = 0u; r < EACH; r++) {
                let y = (*w)[r * QUADS + i * (LANES / 4u) + n];
                sums[r] = add_row(sums[r], y, v0, v1, v2, v3);
            }
        }
    }
    return sums;
}

// Nothing yet.
fn open(here: Place, lane: u32, block: u32) {
    if (here.live && here.opens) {
        for (var r = 0u; r < EACH; r++) {
            let at = sums_of(here, lane * EACH + r, block);
            for (var c = 0u; c < block; c++) {
                parts[at + c] = vec4f();
            }
        }
    }
}
