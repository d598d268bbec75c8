// Gradients of owners by tiles: of a row, which is an owner x with a partner y, over columns z,
//
//   P_z = 2^(s_z - lse)        dS_z = scale · P_z ((xv ∘ yv) · zv - dO · o)
//   dx += pull(y, sum dS_z z)        dxv += yv ∘ sum P_z zv
//
// A row goes on from partner y to y + 2^y_bits. tensor_sum adds the rows of an owner.
//
// 7 parts, BLOCK = ceil(D/STEP) where KEYS + ceil(V/4) where VALUES: dx, dxv in chunks.

// a = (xv ∘ yv) · zv.
fn multiply_values(lid: u32) {
    clear();
    for (var slab = 0u; slab < value_chunks(); slab += SLAB) {
        workgroupBarrier();
        for (var c = lid / ROWS; c < SLAB; c += LANES / ROWS) {
            arena[c * ROW_STRIDE + lid % ROWS] = load_xv(at_x, slab + c) * load_yv(at_y, slab + c);
        }
        for (var c = lid / COLUMNS; c < SLAB; c += LANES / COLUMNS) {
            arena[ARENA_Z + c * COLUMN_STRIDE + lid % COLUMNS] = load_zv(at_z, slab + c);
        }
        workgroupBarrier();
        multiply(lid);
    }
}

// The sum of a row's weights.
fn total_of(row: u32) -> f32 {
    var sum = vec4f();
    for (var n = 0u; n < AX; n++) {
        sum += weights[n * ROW_STRIDE + row];
    }
    return sum.x + sum.y + sum.z + sum.w;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    // Both gradients fit a slice, or there is only one.
    let chunks = max(select(0u, key_chunks(), KEYS), select(0u, value_chunks(), VALUES));
    let block = grad_block();
    let here = place(group_index(group, grid), (chunks + TX - 1u) / TX);
    let base = here.slice * TX;
    let chunk = base + lid % TX;
    let row = lid / TX * O_ROWS;
    enter(here, lid);
    var dx: array<vec4f, O_ROWS>;
    var dxv: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        dx[i] = vec4f();
        dxv[i] = vec4f();
    }
    if (!here.opens) {
        for (var i = 0u; i < O_ROWS; i++) {
            let at = sums_of(here, row + i, block);
            if (KEYS) {
                dx[i] = parts[at + min(chunk, key_chunks() - 1u)];
            }
            if (VALUES) {
                dxv[i] = parts[at + value_base() + min(chunk, value_chunks() - 1u)];
            }
        }
    }
    for (var y0 = here.y0; y0 < here.y1; y0 += 1u << p.y_bits) {
        enter_block(here, y0, lid);
        var sees = array<vec2u, 4>(seen_by(here, y0, lid, 0u), seen_by(here, y0, lid, 1u), seen_by(here, y0, lid, 2u), seen_by(here, y0, lid, 3u));
        var known: array<vec2f, 4>;
        for (var i = 0u; i < 4u; i++) {
            known[i] = rows[p.rows_offset + query_of(here, y0, lid / AX + AY * i)];
        }
        let span = z_part(here, y0);
        for (var z0 = span.x; z0 < span.y; z0 += COLUMNS) {
            enter_tile(here, z0, lid);
            multiply_keys(lid);
            var w: array<vec4f, 4>;
            for (var i = 0u; i < 4u; i++) {
                w[i] = select(vec4f(), exp2(p.scale * LOG2E * a[i] - vec4f(known[i].x)), mask(sees[i], z0, lid));
            }
            if (KEYS) {
                multiply_values(lid);
                for (var i = 0u; i < 4u; i++) {
                    put_weights(lid, i, p.scale * w[i] * (a[i] - vec4f(known[i].y)));
                }
                var sums: array<vec4f, O_ROWS>;
                for (var i = 0u; i < O_ROWS; i++) {
                    sums[i] = vec4f();
                }
                weigh(false, here, z0, base, lid, &sums);
                for (var i = 0u; i < O_ROWS; i++) {
                    var total = 0.0;
                    if (SHARES) {
                        total = total_of(row + i);
                    }
                    dx[i] += pull(load_y(partner_row(here, y0, row + i), chunk), sums[i], total);
                }
            }
            if (VALUES) {
                workgroupBarrier();
                for (var i = 0u; i < 4u; i++) {
                    put_weights(lid, i, w[i]);
                }
                var sums: array<vec4f, O_ROWS>;
                for (var i = 0u; i < O_ROWS; i++) {
                    sums[i] = vec4f();
                }
                weigh(true, here, z0, base, lid, &sums);
                for (var i = 0u; i < O_ROWS; i++) {
                    dxv[i] = fma(load_yv(partner_row(here, y0, row + i), chunk), sums[i], dxv[i]);
                }
            }
        }
    }
    if (here.live) {
        for (var i = 0u; i < O_ROWS; i++) {
            let at = sums_of(here, row + i, block);
            if (KEYS && chunk < key_chunks()) {
                parts[at + chunk] = dx[i];
            }
            if (VALUES && chunk < value_chunks()) {
                parts[at + value_base() + chunk] = dxv[i];
            }
        }
    }
}
