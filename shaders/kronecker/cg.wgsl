// What the kernels of conjugate gradients share: K = V Λ Vᵀ, B = I + √Λ Vᵀ W V √Λ, and M = 1 + mean(W) Λ, which precondition it.
// `a` is the scale of the tables of eigenvalues, `gain` the mean of W.
//
// scalars of a row: 0 ρ = rᵀ M⁻¹ r, 1 the ρ to stop at, 2 step, 3 the share of the last direction, 4 status, 5 iterations, 6 the first ρ
fn lambda(e: u32) -> f32 {
    return max(p.a * eigenvalue(e), 0.0);
}

fn preconditioner(value: f32) -> f32 {
    return 1.0 + p.gain * value;
}
