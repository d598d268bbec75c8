// The items are read from another array, laid out alike.
//
// 0 x: array<Stored>
@group(0) @binding(0) var<storage, read> x: array<Stored>;

fn source(at: u32) -> Stored {
    return x[at - p.y_offset + p.x_offset];
}
