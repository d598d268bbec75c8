// Landmarks as means of runs of queries. 32 words a workgroup, 8 invocations to a word.
//
// 0 q: array<One>, q[q_offset + row(t) * width + d]          1 l: array<One>, l[l_offset + (head*m + a)*width + d]
@group(0) @binding(0) var<storage, read> q: array<One>;
@group(0) @binding(1) var<storage, read_write> l: array<One>;

var<workgroup> sums: array<vec4f, 256>;

// The sum over every eighth token of a run, for element e of the landmarks of this dispatch.
fn part(e: u32, lane: u32) -> f32 {
    let head = p.first_head + e / (p.landmarks * p.width);
    let a = (e / p.width) % p.landmarks;
    let row = (head / p.heads) * p.batch_stride + (head % p.heads) * p.head_stride;
    var sum = 0.0;
    for (var t = run_begin(a) + lane; t < run_begin(a + 1u); t += 8u) {
        let at = p.q_offset + (row + t * p.token_stride) * p.width + e % p.width;
        sum += widen_one(q[at >> ONES_SHIFT], at);
    }
    return sum / f32(run_begin(a + 1u) - run_begin(a));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let word = group_index(group, grid) * 32u + lid % 32u;
    var x = vec4f();
    for (var i = 0u; i < 1u << ONES_SHIFT; i++) {
        let e = (word << ONES_SHIFT) + i;
        if (e < p.elements) {
            x[i] = part(e, lid / 32u);
        }
    }
    sums[lid] = x;
    workgroupBarrier();
    if (lid < 32u && (word << ONES_SHIFT) < p.elements) {
        for (var lane = 1u; lane < 8u; lane++) {
            x += sums[32u * lane + lid];
        }
        l[((p.l_offset + p.first_head * p.landmarks * p.width) >> ONES_SHIFT) + word] = narrow(x).x;
    }
}
