// Gradients in f32, read by whole vectors: rows and their halves begin at such.
alias GradCell = vec4f;

fn grad_cells(at: u32, left: u32) -> vec4u {
    return vec4u(at >> 2u);
}

fn gather_grad(a: GradCell, b: GradCell, c: GradCell, d: GradCell) -> vec4f {
    return a;
}
