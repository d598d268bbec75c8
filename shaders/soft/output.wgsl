// Sums over landmarks, for a tile of tokens: out_ic = sum_a weight_ia term(operand_ac, own_ic).
// A workgroup has TOKENS rows and COLUMNS columns of one (batch, head); its segment is its tile.
const O_ROWS: u32 = TOKENS / TY;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    let column = here.column + 4u * (lid % TX);
    let row = (lid / TX) * O_ROWS;
    var own: array<vec4f, O_ROWS>;
    var sum: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        own[i] = own_of(here, here.begin + row + i, column);
        sum[i] = vec4f();
    }
    for (var mark = 0u; mark < p.landmarks; mark += LANDMARKS) {
        weigh(here, here.begin, mark, lid);
        for (var slab = 0u; slab < LANDMARKS; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 16u * TX; e += 256u) {
                arena[e] = operand(here, mark + slab + e / TX, here.column + 4u * (e % TX));
            }
            workgroupBarrier();
            for (var j = 0u; j < 16u; j++) {
                let x = arena[j * TX + lid % TX];
                for (var i = 0u; i < O_ROWS; i++) {
                    sum[i] = fma(vec4f(weight[(row + i) * LANDMARKS + slab + j]), term(x, own[i]), sum[i]);
                }
            }
        }
    }
    for (var i = 0u; i < O_ROWS; i++) {
        put_row(here, here.begin + row + i, column, sum[i]);
    }
}
