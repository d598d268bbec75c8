// What the kernels of pooling share. Landmark a of a head is the mean of its tokens from a*T/m to (a+1)*T/m, rounded down.
struct Params {
    tokens: u32,
    heads: u32,
    first_head: u32,
    landmarks: u32,
    width: u32,
    batch_stride: u32,
    head_stride: u32,
    token_stride: u32,
    q_offset: u32,
    l_offset: u32,
    first: u32,
    elements: u32,
}
var<immediate> p: Params;

fn run_begin(a: u32) -> u32 {
    return a * p.tokens / p.landmarks;
}
