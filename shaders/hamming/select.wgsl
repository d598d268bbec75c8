// Every pair of a walk goes to its place in the order of (distance, index): places[q*query_stride + s*segment_stride + d*bin_stride]
// is that of the first one of a query, a segment and a distance; the lane that has the query's segment counts it on.
//
// 3 places: array<u32>        4 out_distance, 5 out_index: array<u32>, [out_offset + q*out_stride + place] where place < limit
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> out_distance: array<u32>;
@group(0) @binding(5) var<storage, read_write> out_index: array<u32>;

fn take(q: u32, segment: u32, index: u32, d: u32) {
    let at = q * p.query_stride + (p.first_segment + segment) * p.segment_stride + d * p.bin_stride;
    let place = places[at];
    places[at] = place + 1u;
    if (place < p.limit) {
        out_distance[p.out_offset + q * p.out_stride + place] = d;
        out_index[p.out_offset + q * p.out_stride + place] = index;
    }
}
