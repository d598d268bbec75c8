// What is missed, times beta.
//
// 8 weighed: array<OutCell>, like o
@group(0) @binding(8) var<storage, read_write> weighed: array<OutCell>;

fn put_weighed(row: u32, column: u32, x: vec4f) {
    weighed[(p.o_offset + row * p.value + column) / 4u] = out_part(x, 0u);
}
