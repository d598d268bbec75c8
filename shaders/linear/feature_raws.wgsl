// What a map of rows is made of, forward and back. A map says which reductions over the row it needs (MOST, SUMS, ALONG,
// FIRST) and how many HALVES its features have.
struct Pair {
    a: vec4f,
    b: vec4f,
}

// A lane's columns of a row, what becomes of them, and the row's largest of x and of -x and its sums of both halves.
struct Held {
    x: array<vec4f, CELLS>,
    raws: array<Pair, CELLS>,
    most: vec2f,
    sum: vec2f,
}

// The sums of a pair's components over the columns that exist.
fn totals(w: Pair, column: u32) -> vec2f {
    return vec2f(total(select(vec4f(), w.a, present(column))), total(select(vec4f(), w.b, present(column))));
}

fn hold(held: ptr<function, Held>, row: u32, live: bool, lid: u32) {
    var most = vec2f(-3.4e38);
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lid % LANES);
        let x = load_x(row, column, live && column < p.key);
        (*held).x[c] = x;
        if (MOST) {
            let low = vec4f(-3.4e38);
            most = max(most, vec2f(largest(select(low, x, present(column))), largest(select(low, -x, present(column)))));
        }
    }
    if (MOST) {
        to_largest(&most, lid);
    }
    var sum = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        (*held).raws[c] = raw((*held).x[c], most);
        if (SUMS) {
            sum += totals((*held).raws[c], 4u * (c * LANES + lid % LANES));
        }
    }
    if (SUMS) {
        to_total(&sum, lid);
    }
    (*held).most = most;
    (*held).sum = sum;
}
