// Gradients of the inputs from those of the squared distances, e_ts = pull_ts + spread: with y = x_t / |x_t|,
//
//   g = sum_s e_ts a_s        dx_t = -2 (g - y (y.g)) / |x_t|        or, where |x_t| <= 1e-12 and y = x_t / 1e-12,
//                             dx_t = -2 (g - y sum_s e_ts) / 1e-12
//
// 2 pulls: array<f32>, pulls[(head*T + t)*m + s]        3 grad: array<StateCell>, grad[out_offset + (head*T + t)*C + channel]
// A lane owns a token, and keeps g where the gradient goes.
@group(0) @binding(2) var<storage, read> pulls: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad: array<StateCell>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group_index(group, grid), lane);
    if (row < p.items) {
        pull(row);
    }
}

fn put(at: u32, left: u32, x: vec4f) {
    grad[at >> PART_SHIFT] = state_part(x, 0u);
    if (!WHOLE) {
        for (var n = 1u; n < min(PARTS, left); n++) {
            grad[(at + n) >> PART_SHIFT] = state_part(x, n);
        }
    }
}

fn pull(row: u32) {
    let head = row / p.tokens;
    let t = row % p.tokens;
    let heads_set = set_of(head);
    let spread = spread_of(head);
    let out = p.out_offset + (p.first_head * p.tokens + row) * p.channels;
    var total = 0.0;
    for (var s = 0u; s < p.anchors; s++) {
        total += pulls[row * p.anchors + s] + spread;
    }
    var along = 0.0;
    var size = 0.0;
    for (var q = 0u; 4u * q < p.channels; q++) {
        var g = vec4f();
        for (var s = 0u; s < p.anchors; s++) {
            g = fma(vec4f(pulls[row * p.anchors + s] + spread), anchor_of(heads_set, s, q), g);
        }
        let y = channels_of(head, t, q);
        along += dot(y, g);
        size += dot(y, y);
        put(out + 4u * q, p.channels - 4u * q, g);
    }
    let norm = max(sqrt(size), SMALL);
    let back = select(along / norm, total, norm == SMALL) / norm;
    for (var q = 0u; 4u * q < p.channels; q++) {
        let left = p.channels - 4u * q;
        let c = state_cells(out + 4u * q, left);
        let g = gather_state(left, grad[c.x], grad[c.y], grad[c.z], grad[c.w]);
        put(out + 4u * q, left, -2.0 / norm * (g - back * channels_of(head, t, q)));
    }
}
