// Both sums over tokens for software adapters: sum_j weight_ij term(operand_jc, own_ic) for rows i, over blocks of OTHERS j.
// What rows and others are, tokens or landmarks, the parts beside this say.
//
// A workgroup is one subgroup; a lane owns ROWS rows and COLUMNS columns of each. Others are read one a lane and passed round
// by shuffles, because a software adapter serves each lane's load by itself.
const HELD: u32 = OTHERS / LANES;
const QUADS: u32 = OTHERS / 4u;
const MARKS: u32 = ROWS * LANES;
const VECTORS: u32 = COLUMNS / 4u;

// Four others a vector, QUADS vectors a row.
var<private> weight: array<vec4f, ROWS * QUADS>;
var<private> sum: array<vec4f, ROWS * VECTORS>;

// Channels of four others, by channel.
struct Quad {
    x: vec4f,
    y: vec4f,
    z: vec4f,
    w: vec4f,
}

fn quad(held: vec4f, n: u32) -> Quad {
    let a = subgroupShuffle(held, 4u * n);
    let b = subgroupShuffle(held, 4u * n + 1u);
    let c = subgroupShuffle(held, 4u * n + 2u);
    let d = subgroupShuffle(held, 4u * n + 3u);
    return Quad(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y), vec4f(a.z, b.z, c.z, d.z), vec4f(a.w, b.w, c.w, d.w));
}

// weight = exp(-|q - l|^2 scale).
fn weigh_kernel(here: Place, row: u32, first: u32, lane: u32) {
    for (var i = 0u; i < ROWS * QUADS; i++) {
        weight[i] = vec4f();
    }
    for (var c = 0u; c < p.width; c += 4u) {
        var own: array<vec4f, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            own[r] = row_key(here, row + r * LANES, c);
        }
        for (var i = 0u; i < HELD; i++) {
            let held = other_key(here, first + i * LANES + lane, c);
            for (var n = 0u; n < LANES / 4u; n++) {
                let other = quad(held, n);
                for (var r = 0u; r < ROWS; r++) {
                    let x = vec4f(own[r].x) - other.x;
                    let y = vec4f(own[r].y) - other.y;
                    let z = vec4f(own[r].z) - other.z;
                    let w = vec4f(own[r].w) - other.w;
                    let at = r * QUADS + i * (LANES / 4u) + n;
                    weight[at] = fma(x, x, fma(y, y, fma(z, z, fma(w, w, weight[at]))));
                }
            }
        }
    }
    for (var i = 0u; i < ROWS * QUADS; i++) {
        let j = vec4u(first + 4u * (i % QUADS)) + vec4u(0u, 1u, 2u, 3u);
        weight[i] = select(vec4f(), exp(-p.scale * weight[i]), j < vec4u(end_other(here)));
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lane);
    }
}

fn walk(here: Place, lane: u32) {
    let row = first_row(here) + lane;
    for (var i = 0u; i < ROWS * VECTORS; i++) {
        sum[i] = vec4f();
    }
    for (var first = first_other(here); first < end_other(here); first += OTHERS) {
        weigh(here, row, first, lane);
        for (var v = 0u; v < VECTORS; v++) {
            let column = here.column + 4u * v;
            // A block is summed by itself, so that long sums round less.
            var own: array<vec4f, ROWS>;
            var added: array<vec4f, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                own[r] = own_of(here, row + r * LANES, column);
                added[r] = vec4f();
            }
            for (var i = 0u; i < HELD; i++) {
                let held = operand(here, first + i * LANES + lane, column);
                for (var n = 0u; n < LANES / 4u; n++) {
                    let a = subgroupShuffle(held, 4u * n);
                    let b = subgroupShuffle(held, 4u * n + 1u);
                    let c = subgroupShuffle(held, 4u * n + 2u);
                    let d = subgroupShuffle(held, 4u * n + 3u);
                    for (var r = 0u; r < ROWS; r++) {
                        let w = weight[r * QUADS + i * (LANES / 4u) + n];
                        let low = fma(vec4f(w.x), term(a, own[r]), fma(vec4f(w.y), term(b, own[r]), added[r]));
                        added[r] = fma(vec4f(w.z), term(c, own[r]), fma(vec4f(w.w), term(d, own[r]), low));
                    }
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                sum[r * VECTORS + v] += added[r];
            }
        }
    }
    for (var v = 0u; v < VECTORS; v++) {
        for (var r = 0u; r < ROWS; r++) {
            put_row(here, row + r * LANES, here.column + 4u * v, sum[r * VECTORS + v]);
        }
    }
}
