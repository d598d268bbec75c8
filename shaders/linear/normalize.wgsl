// The normaliser: z, the decayed sum of keys. Every slice of columns has a copy, so that none waits for another.
//
// 6 z: array<StateCell>, element z_offset + (walker * slices + slice) * key + row
const DELTA: bool = false;
const NORMALIZE: bool = true;
@group(0) @binding(6) var<storage, read_write> z: array<StateCell>;

fn beta_of(row: u32) -> f32 {
    return 0.0;
}

fn z_start(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.z_offset + at, left);
    return gather_state(left, z[c.x], z[c.y], z[c.z], z[c.w]);
}

fn put_z(at: u32, left: u32, x: vec4f) {
    for (var i = 0u; i < min(PARTS, left); i++) {
        z[(p.z_offset + at + i) >> PART_SHIFT] = state_part(x, i);
    }
}

fn solution(at: u32) -> f32 {
    return 0.0;
}
