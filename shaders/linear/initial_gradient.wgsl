// The gradient of the initial state: exp(g of the first token) times that of the state after it, summed over the query heads
// that share it; with the delta rule less what corrections took from it.
//
// 0 d: array<f32>, state number (base * heads + head * slots) * group + r * slots of [padded_key, padded_value]
// 1 taken: array<f32>, state (n * heads + head), likewise        4 log_decay: array<f32>
// 5 gradient: array<f32>, [n, heads, key, value]        6 firsts: array<u32>, 5 words a sequence: batch entry, first token, end, base, slots
struct Params {
    first_state: u32,
    states: u32,
    tokens: u32,
    head_first: u32,
    heads: u32,
    group: u32,
    key: u32,
    value: u32,
    padded_key: u32,
    padded_value: u32,
    // The column of the padded state that goes to column 0.
    first_column: u32,
    // What takes an index of all states to one of what is bound, by wrapping; elements of what is bound before the first state.
    d_offset: u32,
    taken_offset: u32,
    gradient_offset: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> d: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<storage, read> firsts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let local = at / (p.key * p.value);
        if (local < p.states) {
            let state = p.first_state + local;
            let row = at / p.value % p.key;
            let column = at % p.value;
            let n = state / p.heads;
            let head = state % p.heads;
            let place = row * p.padded_value + p.first_column + column;
            let size = p.padded_key * p.padded_value;
            var sum = -taken_of(p.taken_offset + local * size + place);
            let slots = firsts[5u * n + 4u];
            let kept = (firsts[5u * n + 3u] * p.heads + head * slots) * p.group;
            for (var r = 0u; r < p.group; r++) {
                sum += d[p.d_offset + (kept + r * slots) * size + place];
            }
            let batch = firsts[5u * n];
            let first = firsts[5u * n + 1u];
            if (first < firsts[5u * n + 2u]) {
                sum *= exp(first_log_decay(select((batch * p.tokens + first) * p.heads + head, (batch * p.heads + head) * p.tokens + first, p.head_first == 1u), head, row));
            }
            gradient[p.gradient_offset + at] = sum;
        }
    }
}
