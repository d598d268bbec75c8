// Sums of products in i32, modulo 2^32.
alias Scalar = i32;
alias Item = i32;

fn both(a: Scalar, x: Item, c: Scalar, y: Item) -> Item {
    return a * x + c * y;
}
