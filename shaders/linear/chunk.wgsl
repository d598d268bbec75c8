// Linear attention by chunks of CHUNK tokens, intra-chunk as a masked product and inter-chunk through the state S at the
// chunk's start (Lightning Attention-2):
//
//   O_r = scale * ( exp((r+1) g) S^T q_r + sum_{j<=r} exp((r-j) g) (q_r . k_j) v_j )        r = 0 .. CHUNK-1
//   S  <- the update of `state_tile`
//
// A workgroup walks the chunks of one (batch, head, segment) with VALUE_TILE columns of S in registers.
// Parameters and bindings: `walk`, `outputs`.

// The arena holds slabs of 16 channels of Q, K and S, then slabs of TOKEN_SLAB tokens of K and V.
const CHANNEL_VECS: u32 = 4u;
const ARENA_Q: u32 = 0u;
const ARENA_KEYS: u32 = CHUNK * CHANNEL_VECS;
const ARENA_S: u32 = 2u * CHUNK * CHANNEL_VECS;
const ARENA_K: u32 = 0u;
const ARENA_V: u32 = TOKEN_SLAB * KEY_PAD / 4u;
const ARENA: u32 = max(ARENA_S + 4u * VALUE_TILE, TOKEN_SLAB * (KEY_PAD + VALUE_TILE) / 4u);
var<workgroup> arena: array<vec4f, ARENA>;
var<workgroup> scores: array<f32, CHUNK * CHUNK>;

// Outputs: O_ROWS consecutive rows by 4 columns an invocation. Scores: A_ROWS rows by 4 columns, CHUNK/4 apart.
const O_ROWS: u32 = CHUNK / TY;
const AX: u32 = CHUNK / 4u;
const A_ROWS: u32 = CHUNK * AX / 256u;

fn load_q(row: u32, t: u32, end: u32, channel: u32) -> vec4f {
    let live = t < end && channel < p.key;
    let at = p.q_offset + select(row * p.key, (row + t * p.token_stride) * p.key + channel, live);
    let left = select(1u, p.key - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, q[c.x], q[c.y], q[c.z], q[c.w]), live);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        walk(place(index), lid);
    }
}

fn walk(here: Place, lid: u32) {
    let tx = lid % TX;
    let ty = lid / TX;
    let ax = lid % AX;
    let ay = lid / AX;
    let column = here.column + 4u * tx;
    let left = select(1u, p.value - column, column < p.value);
    for (var i = 0u; i < S_ROWS; i++) {
        let row = ty * S_ROWS + i;
        let live = row < p.key && column < p.value;
        let start = start_state(here.state_at + select(0u, row * p.value + column, live), select(1u, left, live));
        s[i] = select(vec4f(), start, live);
    }

    for (var first = here.begin; first < here.end; first += CHUNK) {
        var out: array<vec4f, O_ROWS>;
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] = vec4f();
        }
        var a: array<vec4f, A_ROWS>;
        for (var i = 0u; i < A_ROWS; i++) {
            a[i] = vec4f();
        }

        // A = Q K^T and O = Q S, 16 channels at a time.
        for (var slab = 0u; slab < KEY_PAD; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < CHUNK * CHANNEL_VECS; e += 256u) {
                let r = e / CHANNEL_VECS;
                let c = e % CHANNEL_VECS;
                arena[ARENA_Q + c * CHUNK + r] = load_q(here.row, first + r, here.end, slab + 4u * c);
                arena[ARENA_KEYS + c * CHUNK + r] = load_k(here.row, first + r, here.end, slab + 4u * c);
            }
            for (var i = 0u; i < S_ROWS; i++) {
                let row = ty * S_ROWS + i;
                if (row >= slab && row < slab + 16u) {
                    arena[ARENA_S + (row - slab) * TX + tx] = s[i];
                }
            }
            workgroupBarrier();
            for (var c = 0u; c < CHANNEL_VECS; c++) {
                let k0 = arena[ARENA_KEYS + c * CHUNK + ax];
                let k1 = arena[ARENA_KEYS + c * CHUNK + ax + AX];
                let k2 = arena[ARENA_KEYS + c * CHUNK + ax + 2u * AX];
                let k3 = arena[ARENA_KEYS + c * CHUNK + ax + 3u * AX];
                for (var i = 0u; i < A_ROWS; i++) {
                    let qr = arena[ARENA_Q + c * CHUNK + ay * A_ROWS + i];
                    a[i] += vec4f(dot(qr, k0), dot(qr, k1), dot(qr, k2), dot(qr, k3));
                }
                let s0 = arena[ARENA_S + (4u * c) * TX + tx];
                let s1 = arena[ARENA_S + (4u * c + 1u) * TX + tx];
                let s2 = arena[ARENA_S + (4u * c + 2u) * TX + tx];
                let s3 = arena[ARENA_S + (4u * c + 3u) * TX + tx];
                for (var i = 0u; i < O_ROWS; i++) {
                    let qr = arena[ARENA_Q + c * CHUNK + ty * O_ROWS + i];
                    out[i] = fma(vec4f(qr.x), s0, fma(vec4f(qr.y), s1, fma(vec4f(qr.z), s2, fma(vec4f(qr.w), s3, out[i]))));
                }
            }
        }

        // Weights: exp((r-j) g) on the scores of j <= r, exp((r+1) g) on what the state gives row r.
        for (var i = 0u; i < A_ROWS; i++) {
            let r = ay * A_ROWS + i;
            for (var n = 0u; n < 4u; n++) {
                let j = ax + n * AX;
                let weight = exp(here.log_decay * f32(r - min(r, j)));
                scores[r * CHUNK + j] = select(0.0, weight * a[i][n], j <= r);
            }
        }
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] *= exp(here.log_decay * f32(ty * O_ROWS + i + 1u));
        }

        // O += A V and the update of S, TOKEN_SLAB tokens at a time.
        clear_added();
        for (var n = 0u; n < CHUNK / TOKEN_SLAB; n++) {
            workgroupBarrier();
            stage_slab(here, first, n, lid);
            workgroupBarrier();
            if (n * TOKEN_SLAB < (ty + 1u) * O_ROWS) {
                for (var j = 0u; j < TOKEN_SLAB; j++) {
                    let vj = arena[ARENA_V + j * TX + tx];
                    for (var i = 0u; i < O_ROWS; i++) {
                        out[i] = fma(vec4f(scores[(ty * O_ROWS + i) * CHUNK + n * TOKEN_SLAB + j]), vj, out[i]);
                    }
                }
            }
            add_slab(tx, ty);
        }
        update_state(here, first);
        for (var i = 0u; i < O_ROWS; i++) {
            let t = first + ty * O_ROWS + i;
            if (t < here.end && column < p.value) {
                put_o(here.row, t, column, p.scale * out[i]);
            }
        }
    }
    write_state(here, tx, ty);
}
