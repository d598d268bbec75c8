// What the kernels over heads share. Temporaries are bound from the first head of the dispatch on and hold, a head:
//   p_stride numbers of an m x m matrix (m landmarks), y_stride of an m x columns one, r_stride of a row, INFO of the solver's
//   state, piece_stride of the sums over tokens, norm_stride of those of `residual`.
struct Params {
    heads: u32,
    first_head: u32,
    landmarks: u32,
    width: u32,
    value: u32,
    columns: u32,
    column: u32,
    segments: u32,
    blocks: u32,
    parts: u32,
    p_stride: u32,
    y_stride: u32,
    r_stride: u32,
    piece_stride: u32,
    norm_stride: u32,
    l_offset: u32,
    out_offset: u32,
    begin: u32,
    end: u32,
    groups: u32,
    ridge: f32,
    scale: f32,
    tolerance: f32,
}
var<immediate> p: Params;

// State of the solver, a head: iterations, defect, phase, the defect before.
const INFO: u32 = 64u;
