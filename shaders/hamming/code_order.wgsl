// The items of each chunk in order of the y part of their codes, then of their own.
//
// 0 items: array<u32>, codes at items_offset + list*len + i      1 order: array<u32>, order[list*len + place], counted from the chunk
@group(0) @binding(0) var<storage, read> items: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    if (index < p.groups && place < p.lists * p.len) {
        let i = place % p.len;
        let chunk = i / CHUNK * CHUNK;
        let first = p.items_offset + place - i;
        let mine = y_of(items[first + i]);
        var rank = 0u;
        for (var j = chunk; j < min(p.len, chunk + CHUNK); j++) {
            let other = y_of(items[first + j]);
            rank += select(0u, 1u, other < mine || (other == mine && j < i));
        }
        order[place - i + chunk + rank] = i - chunk;
    }
}
