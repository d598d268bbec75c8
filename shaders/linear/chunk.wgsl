// Linear attention by chunks of CHUNK tokens, intra-chunk as a masked product and inter-chunk through the state S at the
// chunk's start (Lightning Attention-2). With W_r the factors of tokens up to r and M_rj those of tokens j+1 .. r:
//
//   y_r = scale * ( (W_r x_r)^T S + sum_{j<=r} (x_r . M_rj a_j) u_j )        j < r where STRICT
//   S  <- the update of `state_tile`
//   u_j = b_j, or with the delta rule beta_j e_j,  e = R (b - (W a)^T S),  R from `delta_prepare`
//
// Where columns fade, the factors act on y and u: y_r takes the terms of its chunk in order, fading as they did.
//
// A workgroup walks the chunks of one walker and segment with VALUE_TILE columns of S in registers. The entry and the products are
// of a part: `chunk_lanes` or `chunk_matrices`.

// Outputs: O_ROWS consecutive rows by 4 columns an invocation.
const O_ROWS: u32 = (CHUNK + TY - 1u) / TY;
var<private> out: array<vec4f, O_ROWS>;
var<private> den: array<f32, O_ROWS>;

fn walk(here: Place, lid: u32) {
    start_state(here, lid);
    if (KEEP && SOURCES && !RESUMES) {
        write_state(here, slot_before(here.span, select(here.span.begin, here.span.end, REVERSE)), lid);
    }
    let chunks = (here.span.end - here.span.begin + CHUNK - 1u) / CHUNK;
    for (var n = 0u; n < chunks; n++) {
        let chunk = chunk_of(here.span, n, chunks);
        open_gates(here, chunk, lid);
        open_rows(here, chunk, lid);
        if (DELTA) {
            miss(here, chunk, lid);
        }
        clear_added();
        if (READS) {
            for (var reader = 0u; reader < GROUP; reader++) {
                let head = shared_head(here.span.head * GROUP + reader, p.state_heads * GROUP, p.q_heads);
                read_state(here, chunk, rows_of(here.span.batch, head, p.q_heads), false, SOURCES, lid);
                if (SOURCES) {
                    combine(here, chunk, true, reader + 1u == GROUP, lid);
                }
                write_outputs(here, chunk, reader, lid);
            }
        } else {
            combine(here, chunk, false, true, lid);
        }
        if (SOURCES) {
            update_state(here, chunk, lid);
            let passed = select(chunk.first + chunk.length, chunk.first, REVERSE);
            // The states between segments are kept already, and read by the next one.
            let between = p.segments > 1u && passed == select(here.span.end, here.span.begin, REVERSE);
            if (KEEP && !between && ((passed - here.span.first) % CHUNK_TOKENS == 0u || passed == here.span.end)) {
                write_state(here, slot_before(here.span, passed), lid);
            }
        }
    }
    if (SOURCES) {
        if (!KEEP) {
            write_state(here, 0u, lid);
        }
        write_ends(here, lid);
    }
}

fn write_outputs(here: Place, chunk: Chunk, reader: u32, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let rows = rows_of(here.span.batch, here.span.head * GROUP + reader, p.state_heads * GROUP);
    for (var i = 0u; i < O_ROWS; i++) {
        let r = lid / TX * O_ROWS + i;
        if (r < chunk.length && column < p.value) {
            put_o(row_at(rows, chunk, r), column, quotient(out[i], den[i]));
        }
    }
}
