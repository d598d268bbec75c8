// The delta rule's corrections: dk holds what the readouts made of it, and the corrections join.
//
// 6 dv: array<vec4f>, like u        9 dk: array<vec4f>, like k
const CORRECTS: bool = true;
@group(0) @binding(6) var<storage, read> dv: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dk: array<vec4f>;

fn correction(at: u32) -> vec4f {
    return dv[at];
}

fn correct(at: u32, x: vec4f) {
    dk[at] += x;
}
