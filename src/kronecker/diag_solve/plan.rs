//! The planner: a beginning, iterations, an end. Between them vectors and scalars are outputs that the next plan takes up.

use bytemuck::bytes_of;

use super::{
    super::{
        spectral::{Operand, Parts, RowSums, Spectral, Tables, vector},
        spectrum::{Rounded, Spectrum},
    },
    DiagForm, DiagOptions, Diagonal, OP,
    direct::Direct,
    kernels::{self, ScalarParams, Stage},
    prepared,
};
use crate::{
    Error, Result,
    gpu::{Caps, Part, part},
    plan::{Bind, Builder, Plan, Slot, Step},
    rows::dispatches,
};

/// Numbers of a row that stay on the device.
pub(super) const SCALARS: usize = 8;

/// Blocks of sums that the end writes: of squares of the residual, f and α.
pub(super) const SUMS: u64 = 3;

/// The system in z for some rows.
#[derive(Debug)]
pub(super) struct System<'a> {
    spectrum: &'a Spectrum,
    rows: usize,
    tolerance: f32,
    /// The scale of the tables of eigenvalues, and the mean of W.
    numbers: Rounded,
}

/// What plans take and change.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub z: Slot,
    pub r: Slot,
    pub direction: Slot,
    pub scalars: Slot,
}

impl State {
    /// As the outputs of beginnings and iterations.
    pub const OUTPUTS: State = State {
        z: Slot::Output(0),
        r: Slot::Output(1),
        direction: Slot::Output(2),
        scalars: Slot::Output(3),
    };
}

const STATE: State = State::OUTPUTS;
pub(super) const Y: Slot = Slot::Input(0);
pub(super) const VECTORS: Slot = Slot::Input(1);
pub(super) const VALUES: Slot = Slot::Input(2);
pub(super) const WEIGHTS: Slot = Slot::Input(3);

/// The beginning, iterations and the end of either system.
#[derive(Debug)]
pub(super) enum Solver<'a> {
    Precision(System<'a>),
    Direct(Direct<'a>),
}

impl<'a> Solver<'a> {
    /// # Errors
    /// `Numeric` when numbers leave the range of f32.
    pub fn new(
        spectrum: &'a Spectrum,
        diagonal: &Diagonal,
        options: &DiagOptions,
        rows: usize,
    ) -> Result<Solver<'a>> {
        let tolerance = options.tolerance;
        Ok(match options.form {
            DiagForm::Precision => {
                Solver::Precision(System::new(spectrum, diagonal, tolerance, rows)?)
            }
            DiagForm::Direct => Solver::Direct(Direct::new(spectrum, diagonal, tolerance, rows)?),
        })
    }

    pub fn begin(&self, caps: &Caps) -> Result<Plan> {
        match self {
            Solver::Precision(system) => system.begin(caps),
            Solver::Direct(system) => system.begin(caps),
        }
    }

    pub fn iterate(&self, count: usize, caps: &Caps) -> Result<Plan> {
        match self {
            Solver::Precision(system) => system.iterate(count, caps),
            Solver::Direct(system) => system.iterate(count, caps),
        }
    }

    pub fn finish(&self, caps: &Caps) -> Result<Plan> {
        match self {
            Solver::Precision(system) => system.finish(caps),
            Solver::Direct(system) => system.finish(caps),
        }
    }
}

impl<'a> System<'a> {
    /// # Errors
    /// `Numeric` when numbers leave the range of f32.
    pub fn new(
        spectrum: &'a Spectrum,
        diagonal: &Diagonal,
        tolerance: f64,
        rows: usize,
    ) -> Result<System<'a>> {
        let scale = spectrum.scale().value();
        let numbers = Rounded {
            a: scale as f32,
            gain: diagonal.mean as f32,
            ..Rounded::default()
        };
        let largest = (scale * diagonal.most).max(scale).max(diagonal.most);
        if largest >= 1e30 || !numbers.a.is_normal() || !numbers.gain.is_normal() {
            return Err(Error::Numeric {
                op: OP,
                what: format!(
                    "covariances up to {scale:.3e} with weights up to {:.3e} leave the range of f32; scale both",
                    diagonal.most
                ),
            });
        }
        Ok(System {
            spectrum,
            rows,
            tolerance: tolerance as f32,
            numbers,
        })
    }

    fn spectral(&self) -> Spectral<'_> {
        Spectral::new(self.spectrum, self.rows, VECTORS)
    }

    fn bytes(&self) -> u64 {
        4 * self.spectral().elements()
    }

    /// A pass over rows that does something to vectors and sums a term.
    fn pass(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        term: Part,
        before: Vec<Operand>,
        after: Vec<Operand>,
        sums: (Slot, u64),
    ) -> Result<()> {
        let tables = Tables::new(self.spectrum.grid(), VALUES);
        let pass = RowSums {
            terms: vec![term, part!("kronecker/cg.wgsl")],
            tables: Some(tables),
            function: self.numbers,
            form: false,
            before,
            after,
            sums,
        };
        pass.steps(builder, caps, self.spectrum.len(), self.rows)
    }

    fn sizes(&self) -> [usize; 2] {
        [self.spectrum.len(), self.rows]
    }

    /// t = W ∘ x.
    fn weighed(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        [x, t]: [Slot; 2],
        sums: Slot,
    ) -> Result<()> {
        let operands = [vec![Operand::read(x), Operand::write(t)], Vec::new()];
        let term = part!("kronecker/cg_weigh.wgsl");
        weigh(builder, caps, self.sizes(), term, operands, (sums, 0))
    }

    fn scalars(&self, builder: &mut Builder, caps: &Caps, stage: Stage, slots: [Slot; 2]) {
        scalars(builder, caps, self.sizes(), self.tolerance, stage, slots);
    }

    fn sums(&self, builder: &mut Builder) -> Slot {
        sums_of(builder, self.spectrum.len(), self.rows)
    }

    /// r = √Λ Vᵀ (W ∘ y), z = 0. Inputs of all three: y, eigenvectors, eigenvalues, weights; outputs: z, r, direction, scalars.
    pub fn begin(&self, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let [t, s] = [0; 2].map(|_| builder.add_scratch(self.bytes()));
        let sums = self.sums(&mut builder);
        self.weighed(&mut builder, caps, [Y, t], sums)?;
        self.spectral().analyse(&mut builder, caps, [t, s])?;
        self.pass(
            &mut builder,
            caps,
            part!("kronecker/cg_start.wgsl"),
            vec![Operand::read(s), Operand::write(STATE.r)],
            vec![Operand::write(STATE.z), Operand::write(STATE.direction)],
            (sums, 0),
        )?;
        self.scalars(&mut builder, caps, Stage::Start, [sums, STATE.scalars]);
        finished(builder, &self.spectral(), caps, 0, 1.0)
    }

    /// So many iterations.
    pub fn iterate(&self, count: usize, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let [t, s] = [0; 2].map(|_| builder.add_scratch(self.bytes()));
        let sums = self.sums(&mut builder);
        let scalars = Operand::Whole(Bind {
            slot: STATE.scalars,
            bytes: 0..4 * (self.rows * SCALARS) as u64,
            write: false,
        });
        let spectral = self.spectral();
        let State {
            z, r, direction, ..
        } = STATE;
        let iteration = |builder: &mut Builder| -> Result<()> {
            self.pass(
                builder,
                caps,
                part!("kronecker/cg_direction.wgsl"),
                vec![Operand::read(r), Operand::write(direction)],
                vec![Operand::write(t), scalars.clone()],
                (sums, 0),
            )?;
            spectral.synthesise(builder, caps, [t, s])?;
            self.weighed(builder, caps, [s, t], sums)?;
            spectral.analyse(builder, caps, [t, s])?;
            self.pass(
                builder,
                caps,
                part!("kronecker/cg_curvature.wgsl"),
                vec![Operand::read(direction), Operand::read(s)],
                Vec::new(),
                (sums, 0),
            )?;
            self.scalars(builder, caps, Stage::Curvature, [sums, STATE.scalars]);
            self.pass(
                builder,
                caps,
                part!("kronecker/cg_step.wgsl"),
                vec![Operand::read(direction), Operand::read(s)],
                vec![Operand::write(z), Operand::write(r), scalars.clone()],
                (sums, 0),
            )?;
            self.scalars(builder, caps, Stage::Residual, [sums, STATE.scalars]);
            Ok(())
        };
        for _ in 0..count {
            builder.part(iteration)?;
        }
        finished(builder, &self.spectral(), caps, count, 2.0 * count as f64)
    }

    /// f = V √Λ z, α = W ∘ (y − f), and sums of squares of √Λ Vᵀ α − z, f and α. Outputs: z, which is read, α, f, sums.
    pub fn finish(&self, caps: &Caps) -> Result<Plan> {
        let mut builder = Builder::default();
        let t = builder.add_scratch(self.bytes());
        let (z, alpha, mean) = (STATE.z, Slot::Output(1), Slot::Output(2));
        let sums = Slot::Output(3);
        self.pass(
            &mut builder,
            caps,
            part!("kronecker/cg_root.wgsl"),
            vec![Operand::read(z), Operand::write(t)],
            Vec::new(),
            (sums, 0),
        )?;
        self.spectral().synthesise(&mut builder, caps, [t, mean])?;
        let operands = [
            vec![Operand::read(Y), Operand::read(mean)],
            vec![Operand::write(alpha)],
        ];
        let term = part!("kronecker/cg_answer.wgsl");
        weigh(&mut builder, caps, self.sizes(), term, operands, (sums, 2))?;
        self.spectral().analyse(&mut builder, caps, [alpha, t])?;
        self.pass(
            &mut builder,
            caps,
            part!("kronecker/cg_residual.wgsl"),
            vec![Operand::read(t), Operand::read(z)],
            Vec::new(),
            (sums, 0),
        )?;
        let squares = RowSums::squares(mean, (sums, 1));
        squares.steps(&mut builder, caps, self.spectrum.len(), self.rows)?;
        finished(builder, &self.spectral(), caps, 0, 2.0)
    }
}

/// Adds a pass over rows that does something with the weights, or variances, of inputs and sums a term.
pub(super) fn weigh(
    builder: &mut Builder,
    caps: &Caps,
    [width, rows]: [usize; 2],
    term: Part,
    [before, after]: [Vec<Operand>; 2],
    sums: (Slot, u64),
) -> Result<()> {
    let weights = Operand::Whole(vector(WEIGHTS, width as u64, caps)?);
    let pass = RowSums {
        terms: vec![term],
        tables: None,
        function: Rounded::default(),
        form: false,
        before: [weights].into_iter().chain(before).collect(),
        after,
        sums,
    };
    pass.steps(builder, caps, width, rows)
}

/// Adds the step that turns sums into scalars of every row.
pub(super) fn scalars(
    builder: &mut Builder,
    caps: &Caps,
    [width, rows]: [usize; 2],
    tolerance: f32,
    stage: Stage,
    [sums, state]: [Slot; 2],
) {
    let parts = Parts::new(width);
    let bind = [
        (sums, parts.len(rows), false),
        (state, (rows * SCALARS) as u64, true),
    ];
    let bind = bind.map(|(slot, len, write)| Bind {
        slot,
        bytes: 0..4 * len,
        write,
    });
    let group_ms = 20.0 * (parts.parts + 64) as f64 / (caps.gflops * 1e6);
    for own in dispatches(0..rows as u64, group_ms, caps) {
        let count = own.end - own.start;
        let params = ScalarParams {
            rows: count as u32,
            parts: parts.parts as u32,
            first: own.start as u32,
            tolerance,
        };
        builder.steps.push(Step {
            kernel: kernels::scalars(stage),
            bind: bind.clone().into(),
            params: bytes_of(&params).to_vec(),
            groups: count,
            predicted_ms: group_ms * count as f64,
        });
    }
}

/// Room for the partial sums of all rows.
pub(super) fn sums_of(builder: &mut Builder, width: usize, rows: usize) -> Slot {
    builder.add_scratch(4 * Parts::new(width).len(rows))
}

/// A plan of so many iterations, and of so many products of one kind.
pub(super) fn finished(
    builder: Builder,
    spectral: &Spectral<'_>,
    caps: &Caps,
    count: usize,
    products: f64,
) -> Result<Plan> {
    let mut work = spectral.work();
    work.flops *= 0.5 * products;
    work.bytes *= 0.5 * products;
    let axes = spectral.spectrum.axes().len();
    let plan = builder.plan(OP, format!("{axes} factors, {count} iterations"), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Plans a whole solution with a fixed number of iterations, of which those after convergence change nothing. Inputs: y, eigenvectors,
/// eigenvalues, weights; outputs: α, f, the scalars of every row.
///
/// # Errors
/// As [`diag_solve`](super::diag_solve), but for those of the device and of its results.
pub fn plan(
    spectrum: &Spectrum,
    diagonal: &Diagonal,
    options: &DiagOptions,
    rows: usize,
    caps: &Caps,
) -> Result<Plan> {
    options.check()?;
    let spectrum = prepared(spectrum, diagonal, options)?;
    let spectral = Spectral::new(&spectrum, rows, VECTORS);
    let system = Solver::new(&spectrum, diagonal, options, rows)?;
    let mut builder = Builder::default();
    let count = options.max_iterations;
    if rows > 0 {
        let [z, r, direction] = [0; 3].map(|_| builder.add_scratch(4 * spectral.elements()));
        let sums = builder.add_scratch(4 * SUMS * Parts::new(spectrum.len()).len(rows));
        let inputs = [Y, VECTORS, VALUES, WEIGHTS];
        let state = [z, r, direction, Slot::Output(2)];
        builder.append(system.begin(caps)?, &inputs, &state)?;
        builder.append(system.iterate(count, caps)?, &inputs, &state)?;
        let last = [z, Slot::Output(0), Slot::Output(1), sums];
        builder.append(system.finish(caps)?, &inputs, &last)?;
    }
    finished(builder, &spectral, caps, count, 2.0 * count as f64 + 3.0)
}

#[cfg(test)]
mod tests {
    use super::{super::super::Matrix, *};

    #[test]
    fn iterations_share_their_temporaries() {
        let factor = Matrix::of(4, 4, |i, j| if i == j { 1.0 } else { 0.25 });
        let spectrum = Spectrum::product(&[factor.clone(), factor.clone(), factor]).unwrap();
        let diagonal = Diagonal::new(&[0.1; 64]).unwrap();
        let planned = |max_iterations| {
            let options = DiagOptions {
                max_iterations,
                ..DiagOptions::default()
            };
            plan(&spectrum, &diagonal, &options, 2, &Caps::lavapipe()).unwrap()
        };
        let [one, many] = [1, 500].map(planned);
        assert!(many.steps.len() > 100 * one.steps.len());
        assert_eq!(many.scratch_bytes(), one.scratch_bytes());
        assert_eq!(many.tables, one.tables);
    }
}
