// D(x), or with `way` -1 Dᵀ(x), at an element of a first derivative: on each axis blocks e [[0, -1], [1, 0]] on neighbouring
// coordinates. The second and the third table have the e of the rows and of the columns.
fn derivative(e: u32, way: f32) -> f32 {
    let row = e / p.last;
    let column = e % p.last;
    let down = values[p.first + row];
    let across = values[p.first + p.middle + column];
    var sum = 0.0;
    // An odd last one has no neighbour, and e = 0.
    if ((row ^ 1u) < p.middle) {
        let x_down = x[(row ^ 1u) * p.last + column];
        sum += select(down, -down, (row & 1u) == 0u) * x_down;
    }
    if ((column ^ 1u) < p.last) {
        let x_across = x[row * p.last + (column ^ 1u)];
        sum += select(across, -across, (column & 1u) == 0u) * x_across;
    }
    return way * sum;
}
