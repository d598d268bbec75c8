// The state starts from a buffer of its own.
// 6 start: array<StateCell>, element ((head*segments + segment)*K + k)*V + v
@group(0) @binding(6) var<storage, read> start: array<StateCell>;

fn start_state(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.start_offset + at, left);
    return gather_state(left, start[c.x], start[c.y], start[c.z], start[c.w]);
}

const RESUMES: bool = false;
