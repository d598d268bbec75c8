// A query sees the items from ranges[..].x to before ranges[..].y.
//
// 7 ranges: array<u32>, two to a query from ranges_offset on
@group(0) @binding(7) var<storage, read> ranges: array<u32>;

fn range_of(q: u32) -> vec2u {
    return vec2u(ranges[p.ranges_offset + 2u * q], ranges[p.ranges_offset + 2u * q + 1u]);
}
