// Adds to the gradient of q what reaches it through pooled landmarks: a token's share of its landmark's gradient. One
// invocation a word; `first` is the index of the first bound element in the whole tensor.
//
// 0 l: array<One>, the gradient of the landmarks, l[(head*m + a)*width + d]          1 q: array<One>, q[element - first]
@group(0) @binding(0) var<storage, read> l: array<One>;
@group(0) @binding(1) var<storage, read_write> q: array<One>;

fn share(e: u32) -> f32 {
    let row = e / p.width;
    let batch = row / (p.heads * p.tokens);
    let rest = row % (p.heads * p.tokens);
    let head_first = p.token_stride == 1u;
    let head = select(rest % p.heads, rest / p.tokens, head_first);
    let t = select(rest / p.heads, rest % p.tokens, head_first);
    let a = ((t + 1u) * p.landmarks - 1u) / p.tokens;
    let at = ((batch * p.heads + head) * p.landmarks + a) * p.width + e % p.width;
    return widen_one(l[at >> ONES_SHIFT], at) / f32(run_begin(a + 1u) - run_begin(a));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let word = group_index(group, grid) * 256u + lid;
    if ((word << ONES_SHIFT) < p.elements) {
        var x = vec4f();
        for (var i = 0u; i < 1u << ONES_SHIFT; i++) {
            let e = (word << ONES_SHIFT) + i;
            if (e < p.elements) {
                x[i] = widen_one(q[word], i) + share(p.first + e);
            }
        }
        q[word] = narrow(x).x;
    }
}
