// Gradients in f32, read element by element: at, at + 1, at + 2, at + 3, the last of `left` repeated.
alias GradCell = f32;

fn grad_cells(at: u32, left: u32) -> vec4u {
    return vec4u(at) + min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u));
}

fn gather_grad(a: GradCell, b: GradCell, c: GradCell, d: GradCell) -> vec4f {
    return vec4f(a, b, c, d);
}
