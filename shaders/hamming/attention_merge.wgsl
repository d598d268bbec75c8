// Outputs from sums over splits, in order: o_i = sum_s S_i^s / Z_i, 0 without keys.
//
// 0 sums: array<f32>, as attention writes them        1 o: array<f32>, o[o_offset + row*V + c]
// 3 table: array<f32>, see attention_span
struct Params {
    heads: u32,
    kv_heads: u32,
    group: u32,
    fold: u32,
    queries: u32,
    keys: u32,
    tiles: u32,
    tile_base: u32,
    splits: u32,
    value: u32,
    bits: u32,
    o_offset: u32,
    lse_offset: u32,
    kept_offset: u32,
    first: u32,
    end: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> o: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;

// Of rows without keys.
const LOWEST: f32 = -0x1.fffffep+127;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let at = p.first + group_index(group, grid) * 64u + lane;
    if (at < p.end) {
        let slot = at / p.value;
        let column = at % p.value;
        let tile = slot / TILE;
        let s = span_of(p.tile_base + tile);
        let r = s.row + slot % TILE;
        if (r < s.rows) {
            var sum = 0.0;
            var running = 0.0;
            for (var split = 0u; split < p.splits; split++) {
                let from_row = ((tile * p.splits + split) * TILE + slot % TILE) * (p.value + 1u);
                sum += sums[from_row + column];
                running += sums[from_row + p.value];
            }
            let total = total_of(slot, running);
            let row = row_of(s, r);
            o[p.o_offset + row * p.value + column] = select(0.0, sum / total, total > 0.0);
            if (column == 0u) {
                let base = table_of(s, r);
                let known = limits(slot, base);
                let shift = table[base + p.bits + 2u] * (f32(p.bits) - 2.0 * f32(known.x));
                put_lse(row, select(LOWEST, shift + log(total), total > 0.0));
                keep(row, vec4u(known, bitcast<u32>(total)));
            }
        }
    }
}
