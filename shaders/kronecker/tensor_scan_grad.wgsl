// Gradients of one key set, of causal linear tensor attention: out[j, y] = sum over x of X[j, x] E_j[x, y], E_j the sum of what
// queries from j to the window's end hand back.
//
// 6 after: array<vec4f>, sums of later chunks, laid out as `before`
// 7 out: array<vec4f>, out[((key_set*heads + head)*T + j)*outer/4 + q]
// A lane owns a chunk's tokens and a vector of columns. With `window` it adds what the queries of the window's last chunk hand back,
// each of which sees only the keys after those that have left.
@group(0) @binding(6) var<storage, read> after: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        sweep(item / (p.quads * p.parts), item / p.quads % p.parts, p.quad + item % p.quads);
    }
}

fn sweep(head: u32, chunk: u32, q: u32) {
    let leaves = p.window != 0u;
    let other = chunk + p.window;
    var held = hold(head, min(other, p.parts - 1u), q);
    var sums: Each;
    for (var n = 0u; n < L; n++) {
        sums[n] = vec4f();
    }
    for (var i = p.since; i < p.until; i++) {
        let found = terms(p.key_set, head, min(other, p.parts - 1u), i, q, &held);
        if (leaves) {
            var sum = vec4f();
            for (var n = 0u; n < L; n++) {
                sums[n] += x[row_of(p.key_set, head, chunk * L + n) * p.inner + i] * sum;
                sum += found[n];
            }
        } else {
            let at = ((p.key_set * p.heads + head) * p.parts + chunk) * p.inner + i;
            var sum = after[at * p.quads + q - p.quad];
            for (var n = 1u; n <= L; n++) {
                sum += found[L - n];
                sums[L - n] += x[row_of(p.key_set, head, chunk * L + L - n) * p.inner + i] * sum;
            }
        }
    }
    for (var n = 0u; n < L; n++) {
        let t = chunk * L + n;
        if (t < p.tokens && other < p.parts) {
            let at = row_of(p.key_set, head, t) * (p.outer / 4u) + q;
            if (p.accumulate == 1u) {
                out[at] += sums[n];
            } else {
                out[at] = sums[n];
            }
        }
    }
}
