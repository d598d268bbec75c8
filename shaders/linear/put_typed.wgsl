// Rows in the storage type that begin at whole vectors: a vector at a time.
alias Out = Vec;
const PUTS: u32 = 1u;
const PUT_SHIFT: u32 = 2u;

fn out_cell(x: vec4f, i: u32) -> Out {
    return narrow(x);
}
