// Two neighbouring items at a time, because a software adapter serves loads lane by lane, whatever their width: of two columns, or
// with WITHIN of one, whose first stage is theirs.
alias Stored = u64;
// One item of all, then the other.
alias Quad = mat2x4f;

// Two stages.
fn quad(a: u64, b: u64, c: u64, d: u64) -> Quad {
    let x = bitcast<vec4f>(vec4u(u32(a), u32(b), u32(c), u32(d)));
    let y = bitcast<vec4f>(vec4u(u32(a >> 32u), u32(b >> 32u), u32(c >> 32u), u32(d >> 32u)));
    if (WITHIN) {
        return mat2x4f(crossed(x + y), crossed(x - y));
    }
    return mat2x4f(crossed(x), crossed(y));
}

fn joined(x: f32, y: f32) -> u64 {
    return u64(bitcast<u32>(x)) | (u64(bitcast<u32>(y)) << 32u);
}

fn put(at: u32, value: Quad) {
    y[at] = joined(value[0].x, value[1].x);
    y[at + p.stride] = joined(value[0].y, value[1].y);
    y[at + 2u * p.stride] = joined(value[0].z, value[1].z);
    y[at + 3u * p.stride] = joined(value[0].w, value[1].w);
}
