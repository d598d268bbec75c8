// Exact softmax attention by tiles of TILE queries by TILE keys, streamed so that no score is stored:
//
//   s_j = scale * q . k_j      m' = max(m, s_j)      w_j = exp(s_j - m')      l' = exp(m - m') l + sum w_j
//   o' = exp(m - m') o + sum w_j v_j      and o / l at the end
//
// 256 invocations. Scores: A_ROWS rows by 4 columns, AX apart. Row maxima: ROW_PARTS invocations a row. Outputs: TX columns
// of 4 values by TY sets of O_ROWS rows in registers, for VALUE_TILE columns of o.
const ROWS_TILE: u32 = TILE;
const TX: u32 = VALUE_TILE / 4u;
const TY: u32 = 256u / TX;
const O_ROWS: u32 = TILE / TY;
const AX: u32 = TILE / 4u;
const A_ROWS: u32 = TILE * AX / 256u;
const ROW_PARTS: u32 = 256u / TILE;

// Slabs of 16 channels of queries and keys, then slabs of 16 tokens of values.
const ARENA_K: u32 = 4u * TILE;
var<workgroup> arena: array<vec4f, max(8u * TILE, 4u * VALUE_TILE)>;
var<workgroup> scores: array<f32, TILE * TILE>;
var<workgroup> partial: array<f32, 256>;
var<workgroup> keeps: array<f32, TILE>;

var<private> a: array<vec4f, A_ROWS>;

// a = Q K^T of a tile.
fn multiply(here: Place, first: u32, lid: u32) {
    let ax = lid % AX;
    let ay = lid / AX;
    for (var i = 0u; i < A_ROWS; i++) {
        a[i] = vec4f();
    }
    for (var slab = 0u; slab < p.key; slab += 16u) {
        workgroupBarrier();
        for (var e = lid; e < 4u * TILE; e += 256u) {
            let r = e / 4u;
            let c = e % 4u;
            arena[c * TILE + r] = load_q(here, here.first + r, slab + 4u * c);
            arena[ARENA_K + c * TILE + r] = load_k(here, first + r, slab + 4u * c);
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let k0 = arena[ARENA_K + c * TILE + ax];
            let k1 = arena[ARENA_K + c * TILE + ax + AX];
            let k2 = arena[ARENA_K + c * TILE + ax + 2u * AX];
            let k3 = arena[ARENA_K + c * TILE + ax + 3u * AX];
            for (var i = 0u; i < A_ROWS; i++) {
                let qr = arena[c * TILE + ay * A_ROWS + i];
                a[i] += dots(qr, k0, k1, k2, k3);
            }
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let here = place(group_index(group, grid));
    let tx = lid % TX;
    let ty = lid / TX;
    let column = here.slice * VALUE_TILE + 4u * tx;
    let row = lid / ROW_PARTS;
    let part = lid % ROW_PARTS;
    var most = LOWEST;
    // This invocation's part of the row's sum.
    var sum = 0.0;
    var out: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
    }
    for (var first = here.begin; first < here.end; first += TILE) {
        multiply(here, first, lid);
        for (var i = 0u; i < A_ROWS; i++) {
            let r = (lid / AX) * A_ROWS + i;
            for (var n = 0u; n < 4u; n++) {
                let j = lid % AX + n * AX;
                scores[r * TILE + j] = select(LOWEST, p.scale * a[i][n], seen(here.first + r, first + j, here.end));
            }
        }
        workgroupBarrier();
        var largest = most;
        for (var i = 0u; i < TILE / ROW_PARTS; i++) {
            largest = max(largest, scores[row * TILE + i * ROW_PARTS + part]);
        }
        partial[lid] = largest;
        workgroupBarrier();
        for (var i = 0u; i < ROW_PARTS; i++) {
            largest = max(largest, partial[row * ROW_PARTS + i]);
        }
        let keep = exp(most - largest);
        most = largest;
        sum *= keep;
        for (var i = 0u; i < TILE / ROW_PARTS; i++) {
            let j = i * ROW_PARTS + part;
            let weight = exp(scores[row * TILE + j] - largest);
            let live = select(0.0, weight, seen(here.first + row, first + j, here.end));
            scores[row * TILE + j] = live;
            sum += live;
        }
        if (part == 0u) {
            keeps[row] = keep;
        }
        workgroupBarrier();
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] *= keeps[ty * O_ROWS + i];
        }
        for (var slab = 0u; slab < TILE; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 16u * TX; e += 256u) {
                arena[e] = load_v(here, first + slab + e / TX, here.slice * VALUE_TILE + 4u * (e % TX));
            }
            workgroupBarrier();
            for (var j = 0u; j < 16u; j++) {
                let vj = arena[j * TX + tx];
                for (var i = 0u; i < O_ROWS; i++) {
                    out[i] = fma(vec4f(scores[(ty * O_ROWS + i) * TILE + slab + j]), vj, out[i]);
                }
            }
        }
    }
    workgroupBarrier();
    partial[lid] = sum;
    workgroupBarrier();
    for (var i = 0u; i < O_ROWS; i++) {
        var total = 0.0;
        for (var n = 0u; n < ROW_PARTS; n++) {
            total += partial[(ty * O_ROWS + i) * ROW_PARTS + n];
        }
        if (here.begin < here.end) {
            put_o(here, here.first + ty * O_ROWS + i, column, out[i] / total);
        }
    }
}
