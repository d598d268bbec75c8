// A workgroup of SIDE * SIDE invocations a tile.
@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let here = place(group_index(group, grid));
    if (here.z == 1u) {
        pairs(here.x * TILE, here.y * TILE, lid);
    }
}
