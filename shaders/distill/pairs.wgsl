// What the kernels of distillation share: parameters, bindings, and the products of TILE rows with TILE columns of one head.
//
// 0 q: array<Cell>, q[qk_offset + (head*T + t)*D + d]                  1 k: array<Cell>, as q
// 2 phi_q: array<StateCell>, phi_q[phi_offset + (head*T + t)*F + f]    3 phi_k: array<StateCell>, as phi_q
// with head counted over batch x heads. Rows of a tile are queries and its columns keys, or the other way round where OF_KEYS.
// Offsets wrap: they take the start of the bound range off an index counted from the start of the whole tensor.
struct Params {
    tokens: u32,
    key: u32,
    features: u32,
    tiles: u32,
    slices: u32,
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    qk_offset: u32,
    phi_offset: u32,
    rows_offset: u32,
    loss_offset: u32,
    scale: f32,
    weight: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<Cell>;
@group(0) @binding(1) var<storage, read> k: array<Cell>;
@group(0) @binding(2) var<storage, read> phi_q: array<StateCell>;
@group(0) @binding(3) var<storage, read> phi_k: array<StateCell>;

// SIDE x SIDE invocations, each with 4 rows by 4 columns of a tile, the columns SIDE apart.
const SIDE: u32 = TILE / 4u;
const LANES: u32 = SIDE * SIDE;

// The least that a student's product counts as.
const FLOOR: f32 = 1e-12;

// Slabs of 16 channels of the rows and of the columns.
const ARENA_COLUMNS: u32 = 4u * TILE;
var<workgroup> arena: array<vec4f, ARENA>;

// What a workgroup works on: TILE rows of one head from `first` and a slice of the features, against columns begin .. end of
// this dispatch. Tiles come longest first where keys are columns.
struct Place {
    head: u32,
    first: u32,
    slice: u32,
    begin: u32,
    end: u32,
    // Whether the group exists.
    live: bool,
}

fn place(index: u32) -> Place {
    let at = p.first + min(index, p.groups - 1u);
    let tile = (at / p.slices) % p.tiles;
    let live = index < p.groups;
    let first = select(p.tiles - 1u - tile, tile, OF_KEYS) * TILE;
    let begin = select(p.begin, max(p.begin, first), CAUSAL && OF_KEYS);
    let end = select(p.end, min(p.end, first + TILE), CAUSAL && !OF_KEYS);
    return Place(at / (p.slices * p.tiles), first, at % p.slices, begin, select(0u, end, live), live);
}

// Which columns, each SIDE after the last, count for a row.
fn seen(row: u32, column: u32, end: u32) -> vec4<bool> {
    let columns = vec4u(column) + SIDE * vec4u(0u, 1u, 2u, 3u);
    let inside = columns < vec4u(end);
    if (!CAUSAL) {
        return inside;
    }
    if (OF_KEYS) {
        return inside & (columns >= vec4u(row));
    }
    return inside & (columns <= vec4u(row));
}

// Four channels of q, k, phi_q or phi_k. Rows past the end repeat the last, channels past it are zero.
fn load(mapped: bool, query: bool, head: u32, t: u32, channel: u32) -> vec4f {
    let width = select(p.key, p.features, mapped);
    let live = channel < width;
    let left = select(1u, width - channel, live);
    let at = (head * p.tokens + min(t, p.tokens - 1u)) * width + select(0u, channel, live);
    var x: vec4f;
    if (mapped) {
        let c = state_cells(p.phi_offset + at, left);
        if (query) {
            x = gather_state(left, phi_q[c.x], phi_q[c.y], phi_q[c.z], phi_q[c.w]);
        } else {
            x = gather_state(left, phi_k[c.x], phi_k[c.y], phi_k[c.z], phi_k[c.w]);
        }
    } else {
        let start = p.qk_offset + at;
        let c = cells(start, left);
        if (query) {
            x = gather(start, left, q[c.x], q[c.y], q[c.z], q[c.w]);
        } else {
            x = gather(start, left, k[c.x], k[c.y], k[c.z], k[c.w]);
        }
    }
    return select(vec4f(), x, live);
}

// This invocation's products of rows and columns: of phi_q and phi_k where mapped, else of q and k.
fn products(mapped: bool, here: Place, column: u32, lid: u32, a: ptr<function, array<vec4f, 4>>) {
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    for (var i = 0u; i < 4u; i++) {
        (*a)[i] = vec4f();
    }
    for (var slab = 0u; slab < select(p.key, p.features, mapped); slab += 16u) {
        workgroupBarrier();
        for (var e = lid; e < 4u * TILE; e += LANES) {
            let r = e / 4u;
            let c = e % 4u;
            arena[c * TILE + r] = load(mapped, !OF_KEYS, here.head, here.first + r, slab + 4u * c);
            arena[ARENA_COLUMNS + c * TILE + r] = load(mapped, OF_KEYS, here.head, column + r, slab + 4u * c);
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let at = ARENA_COLUMNS + c * TILE + ax;
            let x0 = arena[at];
            let x1 = arena[at + SIDE];
            let x2 = arena[at + 2u * SIDE];
            let x3 = arena[at + 3u * SIDE];
            for (var i = 0u; i < 4u; i++) {
                let row = arena[c * TILE + 4u * ay + i];
                (*a)[i] += vec4f(dot(row, x0), dot(row, x1), dot(row, x2), dot(row, x3));
            }
        }
    }
}
