// The items are still in their order.
fn item(here: u32, i: u32) -> u32 {
    return i;
}
