// Sums of what the queries of a chunk hand back to each key set.
//
// 6 out: array<vec4f>, out[(((key_set*heads + head)*parts + chunk)*inner + i)*quads + q - quad]
// A lane owns a chunk, a vector of columns, and the rows from `since` to `until`.
@group(0) @binding(6) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        collect(item / (p.quads * p.parts), item / p.quads % p.parts, p.quad + item % p.quads);
    }
}

fn collect(head: u32, chunk: u32, q: u32) {
    var held = hold(head, chunk, q);
    for (var i = p.since; i < p.until; i++) {
        let found = terms(p.key_set, head, chunk, i, q, &held);
        var sum = vec4f();
        for (var n = 0u; n < L; n++) {
            sum += found[n];
        }
        let at = ((p.key_set * p.heads + head) * p.parts + chunk) * p.inner + i;
        out[at * p.quads + q - p.quad] = sum;
    }
}
