// Rows of f32 of any width and at any place: an element at a time.
alias Out = f32;
const PUTS: u32 = 4u;
const PUT_SHIFT: u32 = 0u;

fn out_cell(x: vec4f, i: u32) -> Out {
    return x[i];
}
