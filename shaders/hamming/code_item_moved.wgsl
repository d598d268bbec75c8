// The items were moved by an earlier digit.
//
// 3 moved: array<u32>, moved[list*len + i]
@group(0) @binding(3) var<storage, read> moved: array<u32>;

fn item(here: u32, i: u32) -> u32 {
    return moved[here];
}
