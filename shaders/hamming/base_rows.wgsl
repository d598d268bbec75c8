// Places count from the start of all rows.
//
// 3 row_offsets: array<u32>, [rows_offset + q]
@group(0) @binding(3) var<storage, read> row_offsets: array<u32>;

fn base(q: u32) -> u32 {
    return row_offsets[p.rows_offset + q];
}
