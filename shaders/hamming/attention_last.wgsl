// The last index that counts at each row's cut-off distance, one row a group: the segment of keys it lies in by their numbers, then the
// key among the segment's.
//
// 4 kept: array<vec4u>, .z from how many keys count at the cut-off to the index of the last of them
// 5 ties: array<u32>, ties[row*segments + segment]
@group(0) @binding(4) var<storage, read_write> kept: array<vec4u>;
@group(0) @binding(5) var<storage, read> ties: array<u32>;

const SCAN: u32 = 64u;
var<workgroup> counts: array<u32, SCAN>;
// The segment, and how many keys of it count.
var<workgroup> found: array<u32, 2>;

// Whether key j is at this distance of a row.
fn tie(row: u32, key: u32, distance: u32) -> bool {
    let i = p.a_offset + row * p.words;
    let j = p.b_offset + key * p.words;
    var d = 0u;
    for (var w = 0u; w < p.words; w++) {
        let mask = select(0xffffffffu, p.last, w + 1u == p.words);
        d += countOneBits((a[i + w] ^ b[j + w]) & mask);
    }
    return d == distance;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let slot = p.first + min(index, p.groups - 1u);
    let s = span_of(p.tile_base + slot / TILE);
    let r = min(s.row + slot % TILE, s.rows - 1u);
    let live = index < p.groups && s.row + slot % TILE < s.rows;
    let sees = interval(s, r);
    let known = kept[slot];
    // All keys at the cut-off count: the index is right as it is.
    let open = known.z == 0xffffffffu || !live;
    let segments = (p.keys + p.segment - 1u) / p.segment;
    let block = (segments + SCAN - 1u) / SCAN;
    let begin = min(lane * block, segments);
    let end = min(begin + block, segments);
    var count = 0u;
    for (var n = begin; n < end; n++) {
        count += ties[slot * segments + n];
    }
    counts[lane] = count;
    if (lane == 0u) {
        found[0] = 0u;
        found[1] = 0u;
    }
    workgroupBarrier();
    var before = 0u;
    for (var n = 0u; n < lane; n++) {
        before += counts[n];
    }
    if (!open && before < known.z && known.z - before <= count) {
        var left = known.z - before;
        var n = begin;
        while (ties[slot * segments + n] < left) {
            left -= ties[slot * segments + n];
            n++;
        }
        found[0] = n;
        found[1] = left;
    }
    workgroupBarrier();
    let wanted = found[1];
    let share = (p.segment + SCAN - 1u) / SCAN;
    let from_key = s.k_first + found[0] * p.segment + lane * share;
    let to_key = min(from_key + share, min(s.k_first + (found[0] + 1u) * p.segment, s.k_end));
    count = 0u;
    for (var j = from_key; j < to_key && wanted > 0u; j++) {
        let there = (j >= sees.x && j < sees.y) || j < sees.z;
        if (there && tie(row_of(s, r), s.kv * p.capacity + j, known.y)) {
            count++;
        }
    }
    workgroupBarrier();
    counts[lane] = count;
    workgroupBarrier();
    before = 0u;
    for (var n = 0u; n < lane; n++) {
        before += counts[n];
    }
    if (!open && before < wanted && wanted - before <= count) {
        var left = wanted - before;
        var j = from_key;
        while (j < to_key && left > 0u) {
            let there = (j >= sees.x && j < sees.y) || j < sees.z;
            if (there && tie(row_of(s, r), s.kv * p.capacity + j, known.y)) {
                left--;
            }
            j++;
        }
        kept[slot].z = j - 1u;
    }
}
