// Lists of pairs (distance, index), `limit` to a query; counters go on beyond it. In no order: `select_short` sorts.
//
// 3 counters: array<atomic<u32>>, [q]        4 lists: array<vec2u>, lists[q*limit + n]
@group(0) @binding(3) var<storage, read_write> counters: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lists: array<vec2u>;

fn take(q: u32, segment: u32, index: u32, d: u32) {
    let n = atomicAdd(&counters[q], 1u);
    if (n < p.limit) {
        lists[q * p.limit + n] = vec2u(d, index);
    }
}
