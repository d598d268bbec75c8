// The states of parts of heads: S_r = sum h_jr x_j over the part's tokens j, with S_bits = sum x_j. Nothing is multiplied.
//
// 3 state: array<vec4f>, state[((head*parts + part)*(bits + 1) + r)*(quads + 1) + q]
// A lane owns a vector of eight rows; the lanes of the first eight own the last row as well.
const BITS: u32 = 8u;

@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        sum(item);
    }
}

fn sum(item: u32) {
    let q = item % columns();
    let sets = (p.bits + BITS - 1u) / BITS;
    let first = item / columns() % sets * BITS;
    let part = item / (columns() * sets) % p.parts;
    let head = item / (columns() * sets * p.parts);
    var sums: array<vec4f, BITS>;
    for (var k = 0u; k < BITS; k++) {
        sums[k] = vec4f();
    }
    var total = vec4f();
    for (var t = part * p.span; t < min((part + 1u) * p.span, p.tokens); t++) {
        let x = source(head, t, q);
        let signs = code(head, t, first / 32u) >> (first % 32u);
        total += x;
        for (var k = 0u; k < BITS; k++) {
            sums[k] += select(-x, x, ((signs >> k) & 1u) == 1u);
        }
    }
    let at = state_at(head, part) + q;
    for (var k = 0u; k < BITS && first + k < p.bits; k++) {
        state[at + (first + k) * columns()] = sums[k];
    }
    if (first == 0u) {
        state[at + p.bits * columns()] = total;
    }
}
