// Storage elements: bf16 packed two to a word. A bf16 is the upper half of an f32.
alias Vec = vec2u;
alias One = u32;
const ONES_SHIFT: u32 = 1u;

fn widen(x: Vec) -> vec4f {
    return vec4f(bitcast<f32>(x.x << 16u), bitcast<f32>(x.x & 0xffff0000u), bitcast<f32>(x.y << 16u), bitcast<f32>(x.y & 0xffff0000u));
}

// To nearest, ties to even; a NaN stays one and turns quiet.
fn upper_half(x: vec4f) -> vec4u {
    let bits = bitcast<vec4u>(x);
    let rounded = (bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u);
    let quiet = (bits >> vec4u(16u)) | vec4u(0x40u);
    return select(rounded, quiet, (bits & vec4u(0x7fffffffu)) > vec4u(0x7f800000u));
}

fn narrow(x: vec4f) -> Vec {
    let h = upper_half(x);
    return Vec(h.x | (h.y << 16u), h.z | (h.w << 16u));
}

fn widen_one(word: One, at: u32) -> f32 {
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (at & 1u) == 1u));
}
