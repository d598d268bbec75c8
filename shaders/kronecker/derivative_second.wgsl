// D(x) at an element of a second derivative, of which D is diagonal: E x, E the sum of both axes' entries of the tables.
fn derivative(e: u32, way: f32) -> f32 {
    return eigenvalue(e) * x[e];
}
