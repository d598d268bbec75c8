// 5 known: array<vec4u>, known[kept_offset + row]
@group(0) @binding(5) var<storage, read_write> known: array<vec4u>;

fn keep(row: u32, x: vec4u) {
    known[p.kept_offset + row] = x;
}
