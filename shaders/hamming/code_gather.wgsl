// What readers find in the tables at their codes.
//
// 1 codes: array<u32>, codes[codes_offset + list*len + i]      2 table: array<f32>
// 3 out: array<f32>, out[out_offset + (list*len + i)*columns() + c]
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let reader = (p.first + index) * (LANES / COLUMNS) + lane / COLUMNS;
    if (index < p.groups && reader < p.lists * p.len) {
        let code = counted(codes[p.codes_offset + reader]);
        for (var c = lane % COLUMNS; c < columns(); c += COLUMNS) {
            out[p.out_offset + reader * columns() + c] = found(reader / p.len, code, c);
        }
    }
}
