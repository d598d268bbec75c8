// States at the tokens of a chunk of L: what its key set's chunks before it sum to, the chunk's own tokens so far, and, of the
// chunk that leaves a window, the tokens that are still inside. Every state is a sum of at most three parts: nothing is
// subtracted, so that a large token leaves no trace when it leaves.
//
// 0 windows: array<u32>, a key set's window in chunks, 0 where it has none
// 1 x: array<f32>, x[((key_set*heads + head)*T + t)*inner + i]        2 y: array<vec4f>, y[((key_set*heads + head)*T + t)*outer/4 + q]
// 3 before: array<vec4f>, before[(((key_set*heads + head)*parts + chunk)*inner + i)*quads + q - quad]
// 4 x_queries: array<f32>, x_queries[(head of queries*Tq + t)*inner + i]
@group(0) @binding(0) var<storage, read> windows: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<vec4f>;
@group(0) @binding(3) var<storage, read> before: array<vec4f>;
@group(0) @binding(4) var<storage, read> x_queries: array<f32>;

// A vector of the Y of the tokens of a chunk, and of the one that leaves.
struct Held {
    own: array<array<vec4f, L>, SETS>,
    leaving: array<array<vec4f, L>, SETS>,
}

// At a chunk's tokens.
alias Each = array<vec4f, L>;

fn row_of(key_set: u32, head: u32, t: u32) -> u32 {
    return (key_set * p.heads + head) * p.tokens + min(t, p.tokens - 1u);
}

fn hold(head: u32, chunk: u32, q: u32) -> Held {
    var held: Held;
    for (var s = 0u; s < SETS; s++) {
        let gone = chunk - windows[s];
        let inside = windows[s] != 0u && windows[s] <= chunk;
        for (var n = 0u; n < L; n++) {
            let t = chunk * L + n;
            let own = y[row_of(s, head, t) * (p.outer / 4u) + q];
            held.own[s][n] = select(vec4f(), own, t < p.tokens);
            if (WINDOWS) {
                let left = y[row_of(s, head, select(0u, gone * L + n, inside)) * (p.outer / 4u) + q];
                held.leaving[s][n] = select(vec4f(), left, inside);
            }
        }
    }
    return held;
}

// The states of a key set in row i, at every token.
fn states(key_set: u32, head: u32, chunk: u32, i: u32, q: u32, held: ptr<function, Held>) -> Each {
    var found: Each;
    let at = ((key_set * p.heads + head) * p.parts + chunk) * p.inner + i;
    let past = before[at * p.quads + q - p.quad];
    var sum = vec4f();
    if (WINDOWS) {
        let inside = windows[key_set] != 0u && windows[key_set] <= chunk;
        let gone = select(0u, chunk - windows[key_set], inside) * L;
        for (var n = 1u; n <= L; n++) {
            let t = L - n;
            found[t] = past + sum;
            if (inside) {
                sum += x[row_of(key_set, head, gone + t) * p.inner + i] * (*held).leaving[key_set][t];
            }
        }
    } else {
        for (var n = 0u; n < L; n++) {
            found[n] = past;
        }
    }
    sum = vec4f();
    for (var n = 0u; n < L; n++) {
        sum += x[row_of(key_set, head, chunk * L + n) * p.inner + i] * (*held).own[key_set][n];
        found[n] += sum;
    }
    return found;
}

// The query at a token, and whether there is one.
fn query_at(head: u32, t: u32) -> u32 {
    return head * p.queries + select(0u, t - p.offset, is_query(t));
}

fn is_query(t: u32) -> bool {
    return t >= p.offset && t < p.tokens;
}
