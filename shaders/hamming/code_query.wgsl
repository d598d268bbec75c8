// What readers of one chunk find: in the tables, which hold the chunks before (after, where REVERSE) this one, and among the items of
// the chunk from `begin` to `end` that are not later (earlier) than they are.
//
//   n = sum_y weight(y - y_q) table[x_q, y] + sum_j weight(k_j - q) row_j
//
// 2 codes: array<u32>, codes[codes_offset + list*len + i]      3 table: array<f32>
// 4 out: array<f32>, out[out_offset + list*stride + i*columns() + c], counted from the chunk where the columns say so
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> slices: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let slice = lane / COLUMNS % SLICES;
    let reader = (p.first + index) * (LANES / COLUMNS / SLICES) + lane / (COLUMNS * SLICES);
    let list = reader / (p.end - p.begin);
    let i = p.begin + reader % (p.end - p.begin);
    let live = index < p.groups && list < p.lists;
    var code = 0u;
    if (live) {
        code = counted(codes[p.codes_offset + list * p.len + i]);
    }
    for (var column = 0u; column < columns(); column += COLUMNS) {
        let c = column + lane % COLUMNS;
        var sum = 0.0;
        if (live && c < columns()) {
            for (var t = 0u; t < p.span; t++) {
                let own = table_of(list, t);
                let weight = weights_of(own);
                var at = half_row(own, x_of(code), slice) + c;
                for (var y = slice; y < (1u << p.y_bits); y += SLICES) {
                    sum += y_weight(weight, y ^ y_of(code)) * table[at];
                    at += SLICES * (p.value + 1u);
                }
                let start = own / p.share * p.len;
                for (var j = select(p.begin, i, REVERSE) + slice; j < select(i + 1u, p.end, REVERSE); j += SLICES) {
                    let difference = items[p.items_offset + start + j] ^ code;
                    sum += x_weight(weight, x_of(difference)) * y_weight(weight, y_of(difference)) * row(start + j, c);
                }
            }
        }
        if (SLICES > 1u) {
            workgroupBarrier();
            slices[lane] = sum;
            workgroupBarrier();
            for (var n = 1u; n < SLICES; n++) {
                sum += slices[(lane + n * COLUMNS) % LANES];
            }
        }
        if (live && c < columns() && slice == 0u) {
            out[place(list, i) + c] = sum;
        }
    }
}
