// Sums of products in f32.
alias Scalar = f32;
alias Item = f32;

fn both(a: Scalar, x: Item, c: Scalar, y: Item) -> Item {
    return a * x + c * y;
}
