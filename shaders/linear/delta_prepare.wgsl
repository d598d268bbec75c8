// The delta rule's triangular systems, for every chunk by itself. With T_rj = a_r . M_rj a_j below the diagonal, what the
// state misses is e = R n, n = b - (W a)^T S, R = (I + T diag(beta))^-1. Below the diagonal of `solved` goes R, beta on it,
// and zero above.
//
// By blocks of 16 tokens and by substitution: L_II inverted a column each lane, then R_IJ = -R_II sum_{J<=M<I} L_IM R_MJ.
// Products of powers of L would lose everything where keys are alike. The inverse of a diagonal block is kept transposed above
// the diagonal until the end, since L is still read below it.
//
// 3 solved: array<f32>, row of the token by CHUNK
@group(0) @binding(3) var<storage, read_write> solved: array<f32>;

var<workgroup> arena: array<vec4f, ARENA>;
var<workgroup> scores: array<f32, CHUNK * CHUNK>;

const BLOCK: u32 = 16u;
const BLOCKS: u32 = CHUNK / BLOCK;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        // A slice is a chunk here.
        let here = place(index);
        let chunks = (here.span.end - here.span.begin + CHUNK - 1u) / CHUNK;
        if (here.slice < chunks) {
            prepare(here, chunk_of(here.span, here.slice, chunks), lid);
        }
    }
}

fn prepare(here: Place, chunk: Chunk, lid: u32) {
    open_gates(here, chunk, lid);
    clear_scores();
    for (var slab = 0u; slab < KEY_PAD; slab += 4u * CHANNEL_VECS) {
        workgroupBarrier();
        stage_rows(here, chunk, here.keys, slab, true, true, lid);
        workgroupBarrier();
        add_scores(lid);
    }
    write_scores(lid);
    workgroupBarrier();
    for (var e = lid; e < CHUNK * CHUNK; e += 256u) {
        scores[e] *= beta_at(here, chunk, e % CHUNK);
    }
    workgroupBarrier();
    if (lid < CHUNK) {
        let first = lid / BLOCK * BLOCK;
        let mine = lid * CHUNK + first;
        for (var r = lid - first + 1u; r < BLOCK; r++) {
            let row = (first + r) * CHUNK + first;
            var sum = scores[row + lid - first];
            for (var m = lid - first + 1u; m < r; m++) {
                sum = fma(scores[row + m], scores[mine + m], sum);
            }
            scores[mine + r] = -sum;
        }
    }
    workgroupBarrier();
    let r = lid / BLOCK;
    let c = lid % BLOCK;
    for (var block = 1u; block < BLOCKS; block++) {
        let row = (block * BLOCK + r) * CHUNK;
        var sums: array<f32, BLOCKS>;
        for (var n = 0u; n < block; n++) {
            let column = n * BLOCK + c;
            var sum = scores[row + column];
            for (var m = c + 1u; m < BLOCK; m++) {
                sum = fma(scores[row + n * BLOCK + m], scores[column * CHUNK + n * BLOCK + m], sum);
            }
            for (var m = (n + 1u) * BLOCK; m < block * BLOCK; m++) {
                sum = fma(scores[row + m], scores[m * CHUNK + column], sum);
            }
            sums[n] = sum;
        }
        workgroupBarrier();
        for (var n = 0u; n < block; n++) {
            scores[row + n * BLOCK + c] = sums[n];
        }
        workgroupBarrier();
        for (var n = 0u; n < block; n++) {
            for (var m = 0u; m < r; m++) {
                let at = block * BLOCK + m;
                sums[n] = fma(scores[at * CHUNK + block * BLOCK + r], scores[at * CHUNK + n * BLOCK + c], sums[n]);
            }
        }
        workgroupBarrier();
        for (var n = 0u; n < block; n++) {
            scores[row + n * BLOCK + c] = -sums[n];
        }
        workgroupBarrier();
    }
    let rows = rows_of(here.span.batch, here.span.head, p.state_heads);
    for (var e = lid; e < CHUNK * CHUNK; e += 256u) {
        let row = e / CHUNK;
        let column = e % CHUNK;
        if (row < chunk.length) {
            let transposed = column < row && column / BLOCK == row / BLOCK;
            var x = scores[select(e, column * CHUNK + row, transposed)];
            if (column == row) {
                x = beta_at(here, chunk, row);
            }
            solved[p.o_offset + row_at(rows, chunk, row) * CHUNK + column] = select(0.0, x, column <= row);
        }
    }
}

fn beta_at(here: Place, chunk: Chunk, i: u32) -> f32 {
    return select(0.0, beta_of(row_at(here.keys, chunk, i)), i < chunk.length);
}
