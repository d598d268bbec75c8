// From the numbers of keys at each distance, one row a group: the cut-off distance, how many keys count at it, the distance of the
// heaviest of those that count, and the sum of their weights, by ascending distance in SCAN blocks.
//
// 0 bins: array<u32>, bins[row*(bits + 1) + d]        3 table: array<f32>, see attention_span
// 4 kept: array<vec4u>, as attention_limits_kept reads it, but for .z: how many keys count at the cut-off, all ones for all
struct Params {
    heads: u32,
    kv_heads: u32,
    group: u32,
    fold: u32,
    queries: u32,
    keys: u32,
    tiles: u32,
    tile_base: u32,
    bits: u32,
    top_n: u32,
    radius: u32,
    ties: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> bins: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> kept: array<vec4u>;

const SCAN: u32 = 64u;
// Counts, and from the second barrier on the lowest and the highest distance with keys that count.
var<workgroup> counts: array<u32, SCAN>;
var<workgroup> lowest: array<u32, SCAN>;
var<workgroup> highest: array<u32, SCAN>;
var<workgroup> sums: array<f32, SCAN>;
// The cut-off, and the keys that count at it.
var<workgroup> found: array<u32, 2>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let slot = p.first + min(index, p.groups - 1u);
    let s = span_of(p.tile_base + slot / TILE);
    let r = min(s.row + slot % TILE, s.rows - 1u);
    let base = table_of(s, r);
    // Distances beyond the radius count for nothing.
    let most = min(p.bits, p.radius) + 1u;
    let block = (p.bits + SCAN) / SCAN;
    let begin = min(lane * block, most);
    let end = min(begin + block, most);
    let row = slot * (p.bits + 1u);
    var count = 0u;
    for (var h = begin; h < end; h++) {
        count += bins[row + h];
    }
    counts[lane] = count;
    if (lane == 0u) {
        // Where fewer keys are there than may count.
        found[0] = most - 1u;
        found[1] = 0xffffffffu;
    }
    workgroupBarrier();
    var before = 0u;
    for (var n = 0u; n < lane; n++) {
        before += counts[n];
    }
    if (before < p.top_n && p.top_n - before <= count) {
        var left = p.top_n - before;
        var h = begin;
        while (bins[row + h] < left) {
            left -= bins[row + h];
            h++;
        }
        found[0] = h;
        found[1] = select(left, 0xffffffffu, p.ties == 1u || left == bins[row + h]);
    }
    workgroupBarrier();
    let cut = found[0];
    let at_cut = found[1];
    // Without a key to count, nothing counts: no distance is below 0.
    let none = p.top_n == 0u;
    let last = min(end, cut + 1u);
    var low = 0xffffffffu;
    var high = 0u;
    for (var h = begin; h < last; h++) {
        if (bins[row + h] > 0u) {
            low = min(low, h);
            high = h;
        }
    }
    lowest[lane] = low;
    highest[lane] = high;
    workgroupBarrier();
    for (var n = 0u; n < SCAN; n++) {
        low = min(low, lowest[n]);
        high = max(high, highest[n]);
    }
    let flip = table[base + p.bits + 1u];
    // With FIXED, weights need no shift.
    let m = select(select(min(low, p.bits), high, flip > 0.0), 0u, FIXED);
    var sum = 0.0;
    for (var h = begin; h < last; h++) {
        let keys = min(bins[row + h], select(0xffffffffu, at_cut, h == cut));
        sum += f32(keys) * table[base + max(h, m) - min(h, m)];
    }
    sums[lane] = sum;
    workgroupBarrier();
    if (lane == 0u && live) {
        var total = 0.0;
        for (var n = 0u; n < SCAN; n++) {
            total += sums[n];
        }
        kept[slot] = select(vec4u(m, cut, at_cut, bitcast<u32>(total)), vec4u(), none);
    }
}
