// The state starts from what the state buffer holds, and is updated in place.
fn start_state(at: u32, left: u32) -> vec4f {
    let c = state_cells(p.state_offset + at, left);
    return gather_state(left, state[c.x], state[c.y], state[c.z], state[c.w]);
}

const RESUMES: bool = true;
