// The index of a workgroup in a grid folded into two dimensions. The last row may have groups to spare: they must do nothing,
// least of all repeat the last one, which may update its state in place.
fn group_index(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}
