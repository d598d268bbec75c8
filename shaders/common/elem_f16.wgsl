// Storage elements: f16, where shaders have them.
alias Vec = vec4<f16>;
alias One = f16;
const ONES_SHIFT: u32 = 0u;

fn widen(x: Vec) -> vec4f {
    return vec4f(x);
}

fn narrow(x: vec4f) -> Vec {
    return Vec(x);
}

fn widen_one(word: One, at: u32) -> f32 {
    return f32(word);
}
