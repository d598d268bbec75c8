// Gradient of the landmarks: what reaches them through C, summed over segments in order, less sum_b J_ab (l_a - l_b).
// One invocation a word, so that no two write one.
//
// 0 l: array<One>, l[l_offset + (head*m + a)*width + d]          1 pieces: array<f32>, pieces[head*piece_stride + (segment*m + a)*width + d]
// 2 slopes: array<f32>, J, slopes[head*p_stride + a*m + b]          3 grad: array<One>, as l
@group(0) @binding(0) var<storage, read> l: array<One>;
@group(0) @binding(1) var<storage, read> pieces: array<f32>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad: array<One>;

fn landmark(head: u32, at: u32) -> f32 {
    let n = p.l_offset + (p.first_head + head) * p.landmarks * p.width + at;
    return widen_one(l[n >> ONES_SHIFT], n);
}

fn gradient(head: u32, at: u32) -> f32 {
    let size = p.landmarks * p.width;
    let a = at / p.width;
    var through = 0.0;
    for (var segment = 0u; segment < p.segments; segment++) {
        through += pieces[head * p.piece_stride + segment * size + at];
    }
    let own = landmark(head, at);
    var among = 0.0;
    for (var b = 0u; b < p.landmarks; b++) {
        among = fma(slopes[head * p.p_stride + a * p.landmarks + b], own - landmark(head, b * p.width + at % p.width), among);
    }
    return through - among;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let size = p.landmarks * p.width;
    let word = group_index(group, grid) * 256u + lid;
    var x = vec4f();
    for (var i = 0u; i < 1u << ONES_SHIFT; i++) {
        let e = (word << ONES_SHIFT) + i;
        if (e < p.heads * size) {
            x[i] = gradient(e / size, e % size);
        }
    }
    if ((word << ONES_SHIFT) < p.heads * size) {
        grad[((p.out_offset + p.first_head * size) >> ONES_SHIFT) + word] = narrow(x).x;
    }
}
