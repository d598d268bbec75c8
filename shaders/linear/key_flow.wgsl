// With the delta rule keys are read as well: what flows into them from earlier tokens, less what their corrections send to
// later ones, joins the flows of the first query head that shares the key.
//
// Rows are those of the key heads. All f32, widths multiples of four.
//
// 0 k: array<vec4f>, k[row * key_vecs + c]        1 came: array<vec4f>, like k        2 left: array<vec4f>, like k
// 3 flow: array<vec4f>, at the row of the first query head
struct Params {
    rows: u32,
    tokens: u32,
    head_first: u32,
    group: u32,
    key_vecs: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> k: array<vec4f>;
@group(0) @binding(1) var<storage, read> came: array<vec4f>;
@group(0) @binding(2) var<storage, read> left: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> flow: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let row = at / p.key_vecs;
        if (row < p.rows) {
            let query_row = select(row * p.group, row / p.tokens * p.group * p.tokens + row % p.tokens, p.head_first == 1u);
            flow[query_row * p.key_vecs + at % p.key_vecs] += k[at] * (came[at] - left[at]);
        }
    }
}
