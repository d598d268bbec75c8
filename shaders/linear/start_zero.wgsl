// The state starts at zero.
fn start_state(at: u32, left: u32) -> vec4f {
    return vec4f();
}

const RESUMES: bool = false;
