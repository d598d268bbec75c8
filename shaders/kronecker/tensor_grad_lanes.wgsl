// Gradients of owners for software adapters: of a row, which is an owner x with a partner y, over columns z,
//
//   P_z = 2^(s_z - lse)        dS_z = scale · P_z ((xv ∘ yv) · zv - dO · o)
//   dx += pull(y, sum dS_z z)        dxv += yv ∘ sum P_z zv
//
// A row goes on from partner y to y + 2^y_bits. tensor_sum adds the rows of an owner.
//
// 7 parts, BLOCK = ceil(D/STEP) where KEYS + ceil(V/4) where VALUES: dx, dxv in chunks.

// s = (xv ∘ yv) · zv.
fn multiply_values(here: Place, z0: u32, lane: u32, s: ptr<function, array<vec4f, EACH * QUADS>>) {
    for (var i = 0u; i < EACH * QUADS; i++) {
        (*s)[i] = vec4f();
    }
    for (var c = 0u; c < value_chunks(); c++) {
        var of_rows: array<vec4f, EACH>;
        var of_x = load_xv(at_x[0], c);
        var of_y = load_yv(at_y[0], c);
        for (var r = 0u; r < EACH; r++) {
            if (r > 0u && !SAME_OWNER) {
                of_x = load_xv(at_x[r], c);
            }
            if (r > 0u && !SAME_PARTNER) {
                of_y = load_yv(at_y[r], c);
            }
            of_rows[r] = of_x * of_y;
        }
        for (var i = 0u; i < HELD; i++) {
            multiply(load_zv(column_row(here, z0 + i * LANES + lane), c), i * (LANES / 4u), &of_rows, s);
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let block = grad_block();
    let here = place(group_index(group, grid), 1u);
    enter(here, lane);
    open(here, lane, block);
    for (var y0 = here.y0; y0 < here.y1; y0 += 1u << p.y_bits) {
        enter_block(here, y0, lane);
        let span = z_part(here, y0);
        for (var z0 = span.x; z0 < span.y; z0 += COLUMNS) {
            var w: array<vec4f, EACH * QUADS>;
            multiply_keys(here, z0, lane, &w);
            var known: array<vec2f, EACH>;
            for (var r = 0u; r < EACH; r++) {
                let row = lane * EACH + r;
                known[r] = rows[p.rows_offset + query_of(here, y0, row)];
                let sees = seen(owner(here, row), partner(y0, row));
                for (var n = 0u; n < QUADS; n++) {
                    let at = r * QUADS + n;
                    w[at] = select(vec4f(), exp2(p.scale * LOG2E * w[at] - vec4f(known[r].x)), mask(sees, z0, n));
                }
            }
            if (VALUES) {
                for (var c = 0u; c < value_chunks(); c++) {
                    var sums = weigh(true, here, z0, c, lane, &w);
                    var of_y = load_yv(at_y[0], c);
                    for (var r = 0u; r < EACH; r++) {
                        if (r > 0u && !SAME_PARTNER) {
                            of_y = load_yv(at_y[r], c);
                        }
                        let at = sums_of(here, lane * EACH + r, block) + value_base() + c;
                        parts[at] = fma(of_y, sums[r], parts[at]);
                    }
                }
            }
            if (KEYS) {
                var d: array<vec4f, EACH * QUADS>;
                multiply_values(here, z0, lane, &d);
                var total: array<f32, EACH>;
                for (var r = 0u; r < EACH; r++) {
                    var sum = vec4f();
                    for (var n = 0u; n < QUADS; n++) {
                        let at = r * QUADS + n;
                        w[at] = p.scale * w[at] * (d[at] - vec4f(known[r].y));
                        sum += w[at];
                    }
                    total[r] = sum.x + sum.y + sum.z + sum.w;
                }
                for (var c = 0u; c < key_chunks(); c++) {
                    var sums = weigh(false, here, z0, c, lane, &w);
                    var of_y = load_y(at_y[0], c);
                    for (var r = 0u; r < EACH; r++) {
                        if (r > 0u && !SAME_PARTNER) {
                            of_y = load_y(at_y[r], c);
                        }
                        let at = sums_of(here, lane * EACH + r, block) + c;
                        parts[at] += pull(of_y, sums[r], total[r]);
                    }
                }
            }
        }
    }
}
