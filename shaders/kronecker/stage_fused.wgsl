// Several neighbouring axes of x multiplied by a factor each, in one pass over memory: z[l, j, r] = alpha sum_t x[l, t, r] K[t, j] +
// beta z[l, j, r], K the product of MODES factors, which is never formed. A workgroup has COLUMNS columns (l, r) in workgroup memory
// and contracts one axis of them after the other, to and fro between two areas.
//
// 0 x: array<One>, element x_at((l*P + t)*R + r)        1 factors: array<vec4f>, rows of whole vectors, one factor after another
// 2 z: array<f32>, z_at((l*Q + j)*R + r)
@group(0) @binding(0) var<storage, read> x: array<One>;
@group(0) @binding(1) var<storage, read> factors: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;

const LANES: u32 = 256u;
// An item of a column lies at area + item*PITCH + column.
var<workgroup> tile: array<f32, 2u * AREA>;

// Where item i of the columns from the first on is: column and item of it.
fn split(n: u32, items: u32) -> vec2u {
    if (TRAILING) {
        return vec2u(n / items, n % items);
    }
    return vec2u(n % COLUMNS, n / COLUMNS);
}

// Item i of a column among all.
fn address(column: u32, items: u32, item: u32) -> u32 {
    if (TRAILING) {
        return (p.first_unit + column) * items + item;
    }
    return ((p.first_unit + column / p.r) * items + item) * p.r + column % p.r;
}

// One axis: [before, p, after] items of every column to [before, q, after]. An invocation takes eight outputs of a slice at a time.
fn mode(lid: u32, into: u32, before: u32, size: u32, outputs: u32, after: u32, own: u32) {
    let source = AREA - into;
    let slices = before * after;
    let quads = (outputs + 3u) / 4u;
    let work = COLUMNS * slices * ((quads + 1u) / 2u);
    for (var n = lid; n < work; n += LANES) {
        let column = n % COLUMNS;
        let slice = n / COLUMNS % slices;
        let block = n / COLUMNS / slices;
        let at = source + (slice / after * size * after + slice % after) * PITCH + column;
        var low = vec4f();
        var high = vec4f();
        for (var t = 0u; t < size; t++) {
            let item = vec4f(tile[at + t * after * PITCH]);
            let f = own + t * quads + 2u * block;
            low = fma(item, factors[f], low);
            if (2u * block + 1u < quads) {
                high = fma(item, factors[f + 1u], high);
            }
        }
        let to = into + (slice / after * outputs * after + slice % after) * PITCH + column;
        for (var c = 0u; c < 4u; c++) {
            let j = 8u * block + c;
            if (j < outputs) {
                tile[to + j * after * PITCH] = low[c];
            }
            if (j + 4u < outputs) {
                tile[to + (j + 4u) * after * PITCH] = high[c];
            }
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        pass_over(p.first + index, lid);
    }
}

fn pass_over(index: u32, lid: u32) {
    let tiles = (p.set_columns + COLUMNS - 1u) / COLUMNS;
    let own = index / tiles;
    let first = COLUMNS * (index % tiles);
    let base = own * p.set_columns + first;
    let live = min(COLUMNS, p.set_columns - first);
    for (var n = lid; n < COLUMNS * FROM; n += LANES) {
        let here = split(n, FROM);
        var item = 0.0;
        if (here.x < live) {
            let at = x_at(address(base + here.x, FROM, here.y));
            item = widen_one(x[at >> ONES_SHIFT], at);
        }
        tile[here.y * PITCH + here.x] = item;
    }
    workgroupBarrier();
    let f = (p.f_set + own) * p.f_batch / 4u;
    mode(lid, AREA, BEFORE_0, P_0, Q_0, AFTER_0, f + FACTOR_0);
    if (MODES > 1u) {
        mode(lid, 0u, BEFORE_1, P_1, Q_1, AFTER_1, f + FACTOR_1);
    }
    if (MODES > 2u) {
        mode(lid, AREA, BEFORE_2, P_2, Q_2, AFTER_2, f + FACTOR_2);
    }
    if (MODES > 3u) {
        mode(lid, 0u, BEFORE_3, P_3, Q_3, AFTER_3, f + FACTOR_3);
    }
    if (MODES > 4u) {
        mode(lid, AREA, BEFORE_4, P_4, Q_4, AFTER_4, f + FACTOR_4);
    }
    if (MODES > 5u) {
        mode(lid, 0u, BEFORE_5, P_5, Q_5, AFTER_5, f + FACTOR_5);
    }
    let result = select(0u, AREA, MODES % 2u == 1u);
    for (var n = lid; n < COLUMNS * TO; n += LANES) {
        let here = split(n, TO);
        if (here.x < live) {
            let at = z_at(address(base + here.x, TO, here.y));
            var sum = p.alpha * tile[result + here.y * PITCH + here.x];
            if (p.beta != 0.0) {
                sum = fma(p.beta, z[at], sum);
            }
            z[at] = sum;
        }
    }
}
