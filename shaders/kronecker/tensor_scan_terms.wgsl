// What queries hand back: e_s,i[x, y] = X_queries[i, x] Y_queries[i, y] Π_{other sets} S_i[x, y], summed over the heads that
// share keys.
//
// 5 y_queries: array<vec4f>, y_queries[(head of queries*Tq + i)*outer/4 + q]
@group(0) @binding(5) var<storage, read> y_queries: array<vec4f>;

// Those of one set, in row i, at the tokens of a chunk.
fn terms(key_set: u32, head: u32, chunk: u32, i: u32, q: u32, held: ptr<function, Held>) -> Each {
    var found: Each;
    for (var n = 0u; n < L; n++) {
        found[n] = vec4f();
        let t = chunk * L + n;
        for (var g = 0u; g < p.group; g++) {
            let row = query_at(head * p.group + g, t);
            let term = x_queries[row * p.inner + i] * y_queries[row * (p.outer / 4u) + q];
            found[n] += term;
        }
    }
    for (var s = 0u; s < SETS; s++) {
        if (s != key_set) {
            let more = states(s, head, chunk, i, q, held);
            for (var n = 0u; n < L; n++) {
                found[n] *= more[n];
            }
        }
    }
    for (var n = 0u; n < L; n++) {
        found[n] = select(vec4f(), found[n], is_query(chunk * L + n));
    }
    return found;
}
