// Storage elements: f32.
alias Vec = vec4f;
alias One = f32;
const ONES_SHIFT: u32 = 0u;

fn widen(x: Vec) -> vec4f {
    return x;
}

fn narrow(x: vec4f) -> Vec {
    return x;
}

fn widen_one(word: One, at: u32) -> f32 {
    return word;
}
