// The items are read from another array.
//
// 0 given: array<Item>
@group(0) @binding(0) var<storage, read> given: array<Item>;

fn source(at: u32) -> Item {
    return given[at];
}
