// Sums over the tokens of a segment, for a tile of landmarks: partial_ac = sum_i weight_ia term(operand_ic, own_ac).
// A workgroup walks the tokens of one (batch, head, segment) in tiles, for LANDMARKS rows and COLUMNS columns.
const S_ROWS: u32 = LANDMARKS / TY;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let row = (lid / TX) * S_ROWS;
    var own: array<vec4f, S_ROWS>;
    var sum: array<vec4f, S_ROWS>;
    for (var i = 0u; i < S_ROWS; i++) {
        own[i] = own_of(here, here.mark + row + i, column);
        sum[i] = vec4f();
    }
    for (var first = here.begin; first < here.end; first += TOKENS) {
        weigh(here, first, here.mark, lid);
        // A tile is summed by itself, so that long sums round less.
        var added: array<vec4f, S_ROWS>;
        for (var i = 0u; i < S_ROWS; i++) {
            added[i] = vec4f();
        }
        for (var slab = 0u; slab < TOKENS; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 16u * TX; e += 256u) {
                arena[e] = operand(here, first + slab + e / TX, here.column + 4u * (e % TX));
            }
            workgroupBarrier();
            for (var j = 0u; j < 16u; j++) {
                let x = arena[j * TX + lid % TX];
                for (var i = 0u; i < S_ROWS; i++) {
                    added[i] = fma(vec4f(weight[(slab + j) * LANDMARKS + row + i]), term(x, own[i]), added[i]);
                }
            }
        }
        for (var i = 0u; i < S_ROWS; i++) {
            sum[i] += added[i];
        }
    }
    for (var i = 0u; i < S_ROWS; i++) {
        put_row(here, here.mark + row + i, column, sum[i]);
    }
}
