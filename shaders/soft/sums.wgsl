// Both sums over tokens on GPUs: out_ic = sum_j weight_ij term(operand_jc, own_ic) for a tile of rows i, over tiles of others j.
// What rows and others are, tokens or landmarks, the parts beside this say.
//
// A workgroup has one tile of rows and COLUMNS columns of one (batch, head, segment).
const ROWS: u32 = select(TOKENS, LANDMARKS, OVER_TOKENS);
const OTHERS: u32 = select(LANDMARKS, TOKENS, OVER_TOKENS);
const ROW_STEP: u32 = select(LANDMARKS, 1u, OVER_TOKENS);
const OTHER_STEP: u32 = select(1u, LANDMARKS, OVER_TOKENS);
const OWN: u32 = ROWS / TY;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let row = (lid / TX) * OWN;
    var own: array<vec4f, OWN>;
    var sum: array<vec4f, OWN>;
    for (var i = 0u; i < OWN; i++) {
        own[i] = own_of(here, first_row(here) + row + i, column);
        sum[i] = vec4f();
    }
    for (var first = first_other(here); first < end_other(here); first += OTHERS) {
        weigh(here, select(here.begin, first, OVER_TOKENS), select(first, here.mark, OVER_TOKENS), lid);
        // A tile is summed by itself, so that long sums round less.
        var added: array<vec4f, OWN>;
        for (var i = 0u; i < OWN; i++) {
            added[i] = vec4f();
        }
        for (var slab = 0u; slab < OTHERS; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 16u * TX; e += 256u) {
                arena[e] = operand(here, first + slab + e / TX, here.column + 4u * (e % TX));
            }
            workgroupBarrier();
            for (var j = 0u; j < 16u; j++) {
                let x = arena[j * TX + lid % TX];
                for (var i = 0u; i < OWN; i++) {
                    let at = (row + i) * ROW_STEP + (slab + j) * OTHER_STEP;
                    added[i] = fma(vec4f(weight[at]), term(x, own[i]), added[i]);
                }
            }
        }
        for (var i = 0u; i < OWN; i++) {
            sum[i] += added[i];
        }
    }
    for (var i = 0u; i < OWN; i++) {
        put_row(here, first_row(here) + row + i, column, sum[i]);
    }
}
