// Squared distances and weights of a tile of tokens and landmarks, by a workgroup of 256 that stages rows in its memory.
//
// Slabs of 16 channels of token rows, then of landmark rows; or 16 rows of operands.
const MARKS: u32 = LANDMARKS;
const ARENA_L: u32 = 4u * TOKENS;
const ARENA: u32 = max(4u * (TOKENS + LANDMARKS), 4u * COLUMNS);
var<workgroup> arena: array<vec4f, ARENA>;
// weight[r * LANDMARKS + a]: of token r of the tile for its landmark a; 0 past the end of either.
var<workgroup> weight: array<f32, TOKENS * LANDMARKS>;

// Columns: 4 to an invocation, TX invocations across, TY sets of rows.
const TX: u32 = COLUMNS / 4u;
const TY: u32 = 256u / TX;
// Pairs: A_ROWS consecutive tokens by 4 landmarks to an invocation, AX apart.
const AX: u32 = LANDMARKS / 4u;
const A_ROWS: u32 = TOKENS * AX / 256u;

var<private> near: array<vec4f, A_ROWS>;

// near = squared distances of the tokens from `first` on and the landmarks from `mark` on, as sums of squared differences:
// |q|^2 + |l|^2 - 2 q.l would cancel.
fn distances(here: Place, first: u32, mark: u32, lid: u32) {
    for (var i = 0u; i < A_ROWS; i++) {
        near[i] = vec4f();
    }
    for (var slab = 0u; slab < p.width; slab += 16u) {
        workgroupBarrier();
        for (var e = lid; e < 4u * TOKENS; e += 256u) {
            arena[(e % 4u) * TOKENS + e / 4u] = load_q(here, first + e / 4u, slab + 4u * (e % 4u));
        }
        for (var e = lid; e < 4u * LANDMARKS; e += 256u) {
            arena[ARENA_L + (e % 4u) * LANDMARKS + e / 4u] = load_l(here, mark + e / 4u, slab + 4u * (e % 4u));
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let at = ARENA_L + c * LANDMARKS + lid % AX;
            let l0 = arena[at];
            let l1 = arena[at + AX];
            let l2 = arena[at + 2u * AX];
            let l3 = arena[at + 3u * AX];
            for (var i = 0u; i < A_ROWS; i++) {
                let x = arena[c * TOKENS + (lid / AX) * A_ROWS + i];
                near[i] += vec4f(dot(x - l0, x - l0), dot(x - l1, x - l1), dot(x - l2, x - l2), dot(x - l3, x - l3));
            }
        }
    }
}

fn put_weights(here: Place, first: u32, mark: u32, lid: u32) {
    for (var i = 0u; i < A_ROWS; i++) {
        let r = (lid / AX) * A_ROWS + i;
        for (var n = 0u; n < 4u; n++) {
            let a = lid % AX + n * AX;
            let live = first + r < here.end && mark + a < p.landmarks;
            weight[r * LANDMARKS + a] = select(0.0, near[i][n], live);
        }
    }
}
