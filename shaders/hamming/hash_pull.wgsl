// Gradients of the squared distances through the kernel, those of the bits passing where |u| < 1:
//
//   pull_ts = -exp(-d_ts / (2 sigma)) / (2 sigma) sum_r weight_rs dh_tr [|u_tr| < 1]
//
// 0 grad: array<f32>, grad[out_offset + (head*T + t)*bits + r]        1 projection: array<f32>, as grad, from first_head on
// 2 distances, 3 pulls: array<f32>, [(head*T + t)*m + s]              4 weight: array<f32>, weight[(set*bits + r)*m + s]
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read> projection: array<f32>;
@group(0) @binding(2) var<storage, read> distances: array<f32>;
@group(0) @binding(3) var<storage, read_write> pulls: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let row = item / p.anchors;
        let head = row / p.tokens;
        let sigma = sigma_of(head);
        let first = p.out_offset + (p.first_head * p.tokens + row) * p.bits;
        var sum = 0.0;
        for (var r = 0u; r < p.bits; r++) {
            let w = weight[(set_of(head) * p.bits + r) * p.anchors + item % p.anchors];
            sum += select(0.0, w * grad[first + r], abs(projection[row * p.bits + r]) < 1.0);
        }
        pulls[item] = -0.5 / sigma * exp(-0.5 / sigma * distances[item]) * sum;
    }
}
