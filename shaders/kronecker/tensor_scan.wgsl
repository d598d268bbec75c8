// Causal linear tensor attention: out[i, y] = sum over x of X_queries[i, x] Π_s S_s,i[x, y], S_s,i the state at token i.
//
// 5 out: array<vec4f>, out[(head of queries*Tq + i)*outer/4 + q]
// A lane owns a chunk's tokens and a vector of columns of a head of queries.
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        scan(item / (p.quads * p.parts), item / p.quads % p.parts, p.quad + item % p.quads);
    }
}

fn scan(head: u32, chunk: u32, q: u32) {
    var held = hold(head / p.group, chunk, q);
    var sums: Each;
    for (var n = 0u; n < L; n++) {
        sums[n] = vec4f();
    }
    for (var i = p.since; i < p.until; i++) {
        var products = states(0u, head / p.group, chunk, i, q, &held);
        for (var s = 1u; s < SETS; s++) {
            let more = states(s, head / p.group, chunk, i, q, &held);
            for (var n = 0u; n < L; n++) {
                products[n] *= more[n];
            }
        }
        for (var n = 0u; n < L; n++) {
            sums[n] += x_queries[query_at(head, chunk * L + n) * p.inner + i] * products[n];
        }
    }
    for (var n = 0u; n < L; n++) {
        let t = chunk * L + n;
        if (is_query(t)) {
            let at = query_at(head, t) * (p.outer / 4u) + q;
            if (p.accumulate == 1u) {
                out[at] += sums[n];
            } else {
                out[at] = sums[n];
            }
        }
    }
}
