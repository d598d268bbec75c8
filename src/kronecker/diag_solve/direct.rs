//! The planner for the system in α itself, (K + D) α = y, preconditioned by (K + c I)⁻¹: for a D with zeros, or a K with negative
//! eigenvalues.

use super::{
    super::{
        spectral::{Operand, RowSums, Source, Spectral, Tables, scale},
        spectrum::{Function, Rounded, Spectrum},
    },
    Diagonal,
    kernels::Stage,
    plan::{SCALARS, State, VALUES, VECTORS, Y, finished, scalars, sums_of, weigh},
};
use crate::{
    Result,
    gpu::{Caps, part},
    plan::{Bind, Builder, Plan, Slot},
};

/// The system in α for some rows. Of the state, α is in the place of z; of the inputs, variances are in that of weights, below 0
/// at missing cells.
#[derive(Debug)]
pub(in crate::kronecker) struct Direct<'a> {
    spectrum: &'a Spectrum,
    rows: usize,
    tolerance: f32,
    inverse: Rounded,
    plain: Rounded,
}

impl<'a> Direct<'a> {
    /// # Errors
    /// `Numeric` when numbers leave the range of f32.
    pub fn new(
        spectrum: &'a Spectrum,
        diagonal: &Diagonal,
        tolerance: f64,
        rows: usize,
    ) -> Result<Direct<'a>> {
        let inverse = Function::Inverse(preconditioner(spectrum, diagonal));
        inverse.check(spectrum)?;
        Ok(Direct {
            spectrum,
            rows,
            tolerance: tolerance as f32,
            inverse: inverse.rounded(spectrum)?,
            plain: Function::Shifted(0.0).rounded(spectrum)?,
        })
    }

    fn spectral(&self) -> Spectral<'_> {
        Spectral::new(self.spectrum, self.rows, VECTORS)
    }

    /// z = V f(λ) Vᵀ x, by way of s.
    fn apply(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        function: Rounded,
        [x, s, z]: [Slot; 3],
    ) -> Result<()> {
        let spectral = self.spectral();
        let tables = Tables::new(self.spectrum.grid(), VALUES);
        let source = Source::Function(function, tables);
        spectral.analyse(builder, caps, [x, s])?;
        scale(builder, caps, spectral.sizes(), &source, s)?;
        spectral.synthesise(builder, caps, [s, z])
    }

    fn sizes(&self) -> [usize; 2] {
        [self.spectrum.len(), self.rows]
    }

    /// u = M⁻¹ r, ρ = rᵀ u, and the direction that follows.
    fn turn(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        state: State,
        stage: Stage,
        [s, u, sums]: [Slot; 3],
    ) -> Result<()> {
        self.apply(builder, caps, self.inverse, [state.r, s, u])?;
        let rho = RowSums {
            terms: vec![part!("kronecker/direct_scaled.wgsl")],
            before: vec![Operand::read(state.r), Operand::read(u)],
            ..RowSums::squares(u, (sums, 0))
        };
        rho.steps(builder, caps, self.spectrum.len(), self.rows)?;
        let slots = [sums, state.scalars];
        scalars(builder, caps, self.sizes(), self.tolerance, stage, slots);
        let operands = [
            vec![Operand::read(u), Operand::write(state.direction)],
            vec![self.kept(state.scalars)],
        ];
        let term = part!("kronecker/direct_direction.wgsl");
        weigh(builder, caps, self.sizes(), term, operands, (sums, 0))
    }

    fn kept(&self, slot: Slot) -> Operand {
        Operand::Whole(Bind {
            slot,
            bytes: 0..4 * (self.rows * SCALARS) as u64,
            write: false,
        })
    }

    fn scratch(&self, builder: &mut Builder) -> [Slot; 3] {
        let bytes = 4 * self.spectral().elements();
        let [s, t] = [0; 2].map(|_| builder.add_scratch(bytes));
        [s, t, sums_of(builder, self.spectrum.len(), self.rows)]
    }

    /// r = y, α = 0, and the first direction.
    pub fn begin(&self, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let state = State::OUTPUTS;
        let [s, t, sums] = self.scratch(&mut builder);
        let operands = [
            vec![Operand::read(Y), Operand::write(state.r)],
            vec![Operand::write(state.z), Operand::write(state.direction)],
        ];
        let term = part!("kronecker/direct_start.wgsl");
        weigh(&mut builder, caps, self.sizes(), term, operands, (sums, 0))?;
        self.turn(&mut builder, caps, state, Stage::Start, [s, t, sums])?;
        finished(builder, &self.spectral(), caps, 0, 2.0)
    }

    /// So many iterations.
    pub fn iterate(&self, count: usize, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let state = State::OUTPUTS;
        let [s, t, sums] = self.scratch(&mut builder);
        let State {
            z: alpha,
            r,
            direction,
            ..
        } = state;
        let sizes = self.sizes();
        let iteration = |builder: &mut Builder| -> Result<()> {
            self.apply(builder, caps, self.plain, [direction, s, t])?;
            let both = || vec![Operand::read(direction), Operand::read(t)];
            let term = part!("kronecker/direct_curvature.wgsl");
            let operands = [both(), Vec::new()];
            weigh(builder, caps, sizes, term, operands, (sums, 0))?;
            let (stage, slots) = (Stage::Curvature, [sums, state.scalars]);
            scalars(builder, caps, sizes, self.tolerance, stage, slots);
            let after = vec![
                Operand::write(alpha),
                Operand::write(r),
                self.kept(state.scalars),
            ];
            let term = part!("kronecker/direct_step.wgsl");
            weigh(builder, caps, sizes, term, [both(), after], (sums, 0))?;
            self.turn(builder, caps, state, Stage::Residual, [s, t, sums])?;
            Ok(())
        };
        for _ in 0..count {
            builder.part(iteration)?;
        }
        finished(builder, &self.spectral(), caps, count, 4.0 * count as f64)
    }

    /// f = K α, and sums of squares of y − f − D α, f and α. Outputs: α as it was found, α, f, sums.
    pub fn finish(&self, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let [found, alpha, mean, sums] = [0, 1, 2, 3].map(Slot::Output);
        let s = builder.add_scratch(4 * self.spectral().elements());
        self.apply(&mut builder, caps, self.plain, [found, s, mean])?;
        let operands = [
            vec![Operand::read(Y), Operand::read(mean)],
            vec![Operand::read(found), Operand::write(alpha)],
        ];
        let term = part!("kronecker/direct_residual.wgsl");
        weigh(&mut builder, caps, self.sizes(), term, operands, (sums, 0))?;
        for (slot, block) in [(mean, 1), (alpha, 2)] {
            let squares = RowSums::squares(slot, (sums, block));
            squares.steps(&mut builder, caps, self.spectrum.len(), self.rows)?;
        }
        finished(builder, &self.spectral(), caps, 0, 2.0)
    }
}

/// c of the preconditioner (K + c I)⁻¹: the harmonic mean of the positive D, beyond twice the lowest eigenvalue of K where that is
/// negative.
pub(super) fn preconditioner(spectrum: &Spectrum, diagonal: &Diagonal) -> f64 {
    diagonal.harmonic() + 2.0 * (-spectrum.least_shifted(0.0)).max(0.0)
}
