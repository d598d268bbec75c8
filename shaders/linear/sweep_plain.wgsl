// No corrections.
const CORRECTS: bool = false;

fn correction(at: u32) -> vec4f {
    return vec4f();
}

fn correct(at: u32, x: vec4f) {}
