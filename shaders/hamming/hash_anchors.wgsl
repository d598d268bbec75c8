// 1 anchors: array<StateCell>, anchors[(set*m + s)*C + channel]
@group(0) @binding(1) var<storage, read> anchors: array<StateCell>;

fn anchor_of(set_index: u32, s: u32, q: u32) -> vec4f {
    let left = p.channels - 4u * q;
    let c = state_cells((set_index * p.anchors + s) * p.channels + 4u * q, left);
    return gather_state(left, anchors[c.x], anchors[c.y], anchors[c.z], anchors[c.w]);
}
