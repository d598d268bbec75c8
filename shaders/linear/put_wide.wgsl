// Rows of f32 that begin at whole vectors: a vector at a time, padding included.
alias Out = vec4f;
const PUTS: u32 = 1u;
const PUT_SHIFT: u32 = 2u;

fn out_cell(x: vec4f, i: u32) -> Out {
    return x;
}
