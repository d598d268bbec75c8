// Exact third-order attention by tiles, streamed so that no score is stored. Of a row, which is a query i with a partner j:
//
//   s_l = scale · t(q_i, k1_j, k2_l) in units of log 2      m' = max(m, s_l)      w_l = 2^(s_l - m')      L' = 2^(m - m') L + sum w_l
//   O' = 2^(m - m') O + v1_j ∘ sum w_l v2_l
//
// A row goes on from partner j to j + 2^y_bits. tensor_merge joins the rows of a query.
//
// 7 parts, BLOCK = ceil(V/4) + slices: O in fours of channels, then (L, m) by slices.

// Factors of what is there, by row: AY rows a component.
var<workgroup> keeps: array<vec4f, AY>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let slices = (value_chunks() + TX - 1u) / TX;
    let block = value_chunks() + slices;
    let here = place(group_index(group, grid), slices);
    let chunk = here.slice * TX + lid % TX;
    let row = lid / TX * O_ROWS;
    let ax = lid % AX;
    let ay = lid / AX;
    enter(here, lid);
    var most = vec4f(LOWEST);
    // This invocation's part of the sums of its four rows.
    var sum = vec4f();
    var out: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
    }
    if (!here.opens) {
        for (var i = 0u; i < 4u; i++) {
            let state = parts[sums_of(here, ay + AY * i, block) + value_chunks() + here.slice];
            sum[i] = select(0.0, state.x, ax == 0u);
            most[i] = state.y;
        }
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] = parts[sums_of(here, row + i, block) + min(chunk, value_chunks() - 1u)];
        }
    }
    for (var y0 = here.y0; y0 < here.y1; y0 += 1u << p.y_bits) {
        enter_block(here, y0, lid);
        var sees = array<vec2u, 4>(seen_by(here, y0, lid, 0u), seen_by(here, y0, lid, 1u), seen_by(here, y0, lid, 2u), seen_by(here, y0, lid, 3u));
        var sums: array<vec4f, O_ROWS>;
        for (var i = 0u; i < O_ROWS; i++) {
            sums[i] = vec4f();
        }
        let span = z_part(here, y0);
        for (var z0 = span.x; z0 < span.y; z0 += COLUMNS) {
            enter_tile(here, z0, lid);
            multiply_keys(lid);
            var largest = most;
            for (var i = 0u; i < 4u; i++) {
                a[i] = select(vec4f(LOWEST), p.scale * LOG2E * a[i], mask(sees[i], z0, lid));
                largest[i] = max(largest[i], max(max(a[i].x, a[i].y), max(a[i].z, a[i].w)));
            }
            workgroupBarrier();
            arena[lid] = largest;
            workgroupBarrier();
            for (var n = 0u; n < AX; n++) {
                largest = max(largest, arena[ay * AX + n]);
            }
            let keep = exp2(most - largest);
            most = largest;
            sum *= keep;
            if (ax == 0u) {
                keeps[ay] = keep;
            }
            for (var i = 0u; i < 4u; i++) {
                let w = select(vec4f(), exp2(a[i] - vec4f(largest[i])), mask(sees[i], z0, lid));
                sum[i] += w.x + w.y + w.z + w.w;
                put_weights(lid, i, w);
            }
            workgroupBarrier();
            for (var i = 0u; i < O_ROWS; i++) {
                let kept = keeps[(row + i) % AY][(row + i) / AY];
                out[i] *= kept;
                sums[i] *= kept;
            }
            weigh(true, here, z0, here.slice * TX, lid, &sums);
        }
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] = fma(load_yv(partner_row(here, y0, row + i), chunk), sums[i], out[i]);
        }
    }
    workgroupBarrier();
    arena[lid] = sum;
    workgroupBarrier();
    if (here.live) {
        if (chunk < value_chunks()) {
            for (var i = 0u; i < O_ROWS; i++) {
                parts[sums_of(here, row + i, block) + chunk] = out[i];
            }
        }
        if (ax == 0u) {
            var total = vec4f();
            for (var n = 0u; n < AX; n++) {
                total += arena[lid + n];
            }
            for (var i = 0u; i < 4u; i++) {
                parts[sums_of(here, ay + AY * i, block) + value_chunks() + here.slice] = vec4f(total[i], most[i], 0.0, 0.0);
            }
        }
    }
}
