// Counts by distance: table[table_offset + q*query_stride + s*segment_stride + d*bin_stride] += 1 for every pair of a walk. Sums of
// ones are the same in any order.
//
// 3 table: array<atomic<u32>>
@group(0) @binding(3) var<storage, read_write> table: array<atomic<u32>>;

fn take(q: u32, segment: u32, index: u32, d: u32) {
    atomicAdd(&table[p.table_offset + q * p.query_stride + (p.first_segment + segment) * p.segment_stride + d * p.bin_stride], 1u);
}
