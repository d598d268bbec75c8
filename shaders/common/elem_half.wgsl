// Storage elements: f16 packed two to a word, for devices without 16-bit types in shaders.
alias Vec = vec2u;
alias One = u32;
const ONES_SHIFT: u32 = 1u;

fn widen(x: Vec) -> vec4f {
    return vec4f(unpack2x16float(x.x), unpack2x16float(x.y));
}

fn narrow(x: vec4f) -> Vec {
    return Vec(pack2x16float(x.xy), pack2x16float(x.zw));
}

fn widen_one(word: One, at: u32) -> f32 {
    return unpack2x16float(word)[at & 1u];
}
