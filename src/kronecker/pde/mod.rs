//! Gaussian processes that solve differential equations by collocation on a grid (GP-HM), for solutions with steep waves.
//!
//! Each axis has a kernel whose spectrum is a learnt mixture ([`Mixture`]); on a plane the kernel is the product of both axes', so that
//! nothing larger than an axis's matrix is formed: a grid of N1 x N2 points takes N1², N2² and N1 N2 numbers.
//!
//! ```text
//! J(U) = ½ [N2 log det K1 + N1 log det K2 + ⟨U, K1⁻¹ U K2⁻¹⟩] + W (τ/2 Σ_boundary (U - g)² - N_b/2 log τ) + v/2 ‖equation at U‖² - N_c/2 log v
//! U_xx = K1'' K1⁻¹ U        U_yy = U K2⁻¹ K2''        u(x, y) = K1(x, ·) K1⁻¹ U K2⁻¹ K2(·, y)
//! ```
//!
//! A step ([`Solver::step`]) minimises J over U, then sets τ and v to what fits best, then moves the mixtures by one step of Adam against
//! the slopes of J at that U. On a plane the minimisation is a linear system in a basis in which both derivatives are diagonal (or of
//! blocks of two): K_i = T_i T_iᵀ, K_i'' = T_i diag(e_i) T_iᵀ, U = T1 Y T2ᵀ,
//!
//! ```text
//! Y + v E ∘ (G1 (E ∘ Y) G2) + W τ (B1ᵀ B1 Y G2 + G1 Y B2ᵀ B2) = …        G = Tᵀ T,  E = e1 ⊕ e2,  B: the rows of T at given sides
//! ```
//!
//! which conjugate gradients solve by products with the G, on a device ([`Solver::on`]) or on the host in f64. An equation with a
//! nonlinear part is linearised around the last U (Gauss-Newton). Factors, slopes and predictions are the host's, in f64.
//!
//! Source: S. Fang, M. Cooley, D. Long, S. Li, R. M. Kirby and S. Zhe, "Solving high frequency and multi-scale PDEs with Gaussian
//! processes", 2024, whose Student and Gaussian mixtures, grids, weights and test problems these are. The basis, the preconditioner, the
//! direct minimisation over U and over τ and v are ours.

mod axis;
#[cfg(feature = "cli")]
pub(crate) mod cases;
mod cpu;
mod device;
mod learn;
mod line;
mod mixture;
mod plan;
mod plane;
mod system;

use faer::Col;

pub use axis::Axis;
pub use learn::{Problem, Solver, Step};
pub use line::Line;
pub use mixture::{Family, Mixture};
pub use plane::Plane;

pub(super) const OP: &str = "gp_pde";

/// What holds inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Equation {
    /// Δu = f.
    Poisson,
    /// Δu + u³ - u = f.
    AllenCahn,
    /// β u_x + u_t = f: x is the first axis, t the second.
    Advection {
        /// β, the speed.
        speed: f64,
    },
}

impl Equation {
    /// c(u), the part without derivatives.
    fn value(self, u: f64) -> f64 {
        match self {
            Equation::AllenCahn => u * u * u - u,
            _ => 0.0,
        }
    }

    /// c'(u).
    fn slope(self, u: f64) -> f64 {
        match self {
            Equation::AllenCahn => 3.0 * u * u - 1.0,
            _ => 0.0,
        }
    }

    /// c'(u) and c(u) - c'(u) u at every point: c near u is the first times the unknown plus the second.
    fn linearised(self, u: &Col<f64>) -> (Col<f64>, Col<f64>) {
        let slope = Col::from_fn(u.nrows(), |i| self.slope(u[i]));
        let rest = Col::from_fn(u.nrows(), |i| self.value(u[i]) - slope[i] * u[i]);
        (slope, rest)
    }
}

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The mixtures' bumps.
    pub family: Family,
    /// Components of the mixture of each axis.
    pub components: usize,
    /// The highest frequency that a mixture starts with, in cycles a unit of length.
    pub highest_frequency: f64,
    /// Adam's rate on the mixtures' parameters.
    pub rate: f64,
    /// How much more a boundary value counts than its likelihood says.
    pub boundary_weight: f64,
    /// Logarithms of the precisions of boundary values and of the equation at the start.
    pub log_precisions: [f64; 2],
    /// The most these may become: the equation's without a cap ruins the Cholesky factor.
    pub log_caps: [f64; 2],
    /// Linearisations a step, where the equation is not linear.
    pub newton_turns: usize,
    /// Conjugate gradients stop when the preconditioned residual has fallen to this ...
    pub tolerance: f64,
    /// ... or after so many iterations.
    pub iterations: usize,
}

impl Options {
    /// The values of the method's paper, and ours where it has none.
    pub fn new(highest_frequency: f64) -> Options {
        Options {
            family: Family::Student,
            components: 30,
            highest_frequency,
            rate: 0.05,
            boundary_weight: 200.0,
            log_precisions: [4.0, -8.0],
            log_caps: [8.0, 4.0],
            newton_turns: 2,
            tolerance: 1e-7,
            iterations: 300,
        }
    }
}
