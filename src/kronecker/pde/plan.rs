//! Plans of conjugate gradients on the normal equations of a plane, by products with matrices of the axes' sizes.

use super::{
    super::{
        diag_solve::kernels::{Stage, one_row, scalars},
        matmul::{Entries, Factor, Operator, Options as Numbers, Product, Shape},
        spectral::{Operand, Parts, RowSums, Tables, vector},
        spectrum::{Combine, Rounded},
    },
    OP,
    axis::Order,
    system::System,
};
use crate::{
    Result,
    gpu::{Caps, Part, part},
    plan::{Bind, Builder, Plan, Slot, Step, Work},
};

/// Numbers that stay on the device: those of `cg`.
pub(super) const SCALARS: usize = 8;

/// Sizes and options of a system: all that a plan depends on beside the numbers in the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sizes {
    pub points: [usize; 2],
    /// Given sides of each axis.
    pub ends: [usize; 2],
    pub order: Order,
    /// Whether the equation's nonlinear part has a slope.
    pub slope: bool,
    /// W τ and v.
    pub bound: f64,
    pub v: f64,
}

impl Sizes {
    pub fn of(system: &System) -> Sizes {
        let [first, second] = &system.basis;
        let [b1, b2] = &system.ends;
        Sizes {
            points: [first.e.nrows(), second.e.nrows()],
            ends: [b1.nrows(), b2.nrows()],
            order: system.order,
            slope: system.slope.is_some(),
            bound: system.bound,
            v: system.v,
        }
    }

    fn len(&self) -> usize {
        let [n, m] = self.points;
        n * m
    }

    /// Numbers of G1, G2, T1, T2, B1 and B2, one after another.
    fn matrices(&self) -> [u64; 6] {
        let [n, m] = self.points.map(|n| n as u64);
        let [k, l] = self.ends.map(|n| n as u64);
        let slope = u64::from(self.slope);
        [n * n, m * m, slope * n * n, slope * m * m, k * n, l * m]
    }
}

// Inputs: matrices, tables of e, the preconditioner, its second vector, the slope.
const MATRICES: Slot = Slot::Input(0);
const TABLES: Slot = Slot::Input(1);
const SCALE: Slot = Slot::Input(2);
const SWAP: Slot = Slot::Input(3);
const SLOPE: Slot = Slot::Input(4);

/// What plans change.
#[derive(Clone, Copy, Debug)]
struct State {
    y: Slot,
    r: Slot,
    z: Slot,
    direction: Slot,
    scalars: Slot,
}

const STATE: State = State {
    y: Slot::Output(0),
    r: Slot::Output(1),
    z: Slot::Output(2),
    direction: Slot::Output(3),
    scalars: Slot::Output(4),
};

/// The planner of a system.
struct Planner<'a> {
    sizes: Sizes,
    tolerance: f32,
    state: State,
    caps: &'a Caps,
    builder: Builder,
    /// Partial sums.
    sums: Slot,
}

impl<'a> Planner<'a> {
    fn new(sizes: Sizes, tolerance: f64, state: State, caps: &'a Caps) -> Planner<'a> {
        let mut builder = Builder::default();
        let sums = builder.add_scratch(4 * Parts::new(sizes.len()).len(1));
        Planner {
            sizes,
            tolerance: tolerance as f32,
            state,
            caps,
            builder,
            sums,
        }
    }

    fn scratch(&mut self) -> Slot {
        self.builder.add_scratch(4 * self.sizes.len() as u64)
    }

    fn whole(&self, slot: Slot) -> Result<Operand> {
        vector(slot, self.sizes.len() as u64, self.caps).map(Operand::Whole)
    }

    /// A pass over the unknowns that does something and sums a term.
    fn pass(
        &mut self,
        terms: Vec<Part>,
        tables: bool,
        function: Rounded,
        [before, after]: [Vec<Operand>; 2],
    ) -> Result<()> {
        let [n, m] = self.sizes.points.map(|n| n as u32);
        let tables = tables.then_some(Tables {
            slot: TABLES,
            combine: Combine::Sum,
            sizes: [1, n, m],
        });
        let pass = RowSums {
            terms,
            tables,
            function,
            form: false,
            before,
            after,
            sums: (self.sums, 0),
        };
        pass.steps(&mut self.builder, self.caps, self.sizes.len(), 1)
    }

    /// z ← alpha x (F_1 ⊗ F_2) + beta z, by two of the matrices or, where there is none, the identity.
    fn product(
        &mut self,
        [first, second]: [Option<(usize, Factor)>; 2],
        numbers: Numbers,
        [x, z]: [Slot; 2],
    ) -> Result<()> {
        let starts = self.sizes.matrices();
        let entries = |at: usize| Entries {
            slot: MATRICES,
            first: starts.iter().take(at).sum(),
        };
        let [n, m] = self.sizes.points;
        let stored: Vec<Entries> = [first, second]
            .iter()
            .flatten()
            .map(|(at, _)| entries(*at))
            .collect();
        let factor =
            |own: Option<(usize, Factor)>, n: usize| own.map_or(Factor::identity(n), |(_, f)| f);
        let operator = Operator::new([factor(first, n), factor(second, m)]);
        let product = Product {
            operator: &operator,
            shape: Shape::rows(1),
            options: numbers,
            factors: &stored,
            x,
            z,
        };
        product.steps(&mut self.builder, self.caps)
    }

    fn scalars(&mut self, stage: Stage) {
        let parts = Parts::new(self.sizes.len());
        let bind = [
            (self.sums, parts.len(1), false),
            (self.state.scalars, SCALARS as u64, true),
        ];
        let bind = bind.map(|(slot, len, write)| Bind {
            slot,
            bytes: 0..4 * len,
            write,
        });
        self.builder.steps.push(Step {
            kernel: scalars(stage),
            bind: bind.into(),
            params: one_row(parts.parts, self.tolerance),
            groups: 1,
            predicted_ms: 20.0 * (parts.parts + 64) as f64 / (self.caps.gflops * 1e6),
        });
    }

    /// z = M⁻¹ r, and ρ.
    fn precondition(&mut self) -> Result<()> {
        let [n, m] = self.sizes.points;
        let State { r, z, .. } = self.state;
        let mut before = vec![self.whole(SCALE)?, Operand::read(r)];
        let (term, function) = match self.sizes.order {
            Order::Second => (
                part!("kronecker/collocation_second.wgsl"),
                Rounded::default(),
            ),
            Order::First => {
                before.push(self.whole(SWAP)?);
                let function = Rounded {
                    a: n as f32,
                    shift: m as f32,
                    ..Rounded::default()
                };
                (part!("kronecker/collocation_first.wgsl"), function)
            }
        };
        self.pass(
            vec![term],
            false,
            function,
            [before, vec![Operand::write(z)]],
        )
    }

    fn derivative(&self) -> Part {
        match self.sizes.order {
            Order::Second => part!("kronecker/derivative_second.wgsl"),
            Order::First => part!("kronecker/derivative_first.wgsl"),
        }
    }

    /// The scalars of a right side in r; y and the direction are 0 then.
    fn begin(&mut self) -> Result<()> {
        self.precondition()?;
        self.scalars(Stage::Start);
        Ok(())
    }

    /// One iteration, with vectors t, s, q and where there is a slope c for what is between.
    fn iterate(&mut self, [t, s, q, c]: [Slot; 4]) -> Result<()> {
        let State {
            y,
            r,
            z,
            direction,
            scalars,
        } = self.state;
        let [n, m] = self.sizes.points;
        let state = Operand::Whole(Bind {
            slot: scalars,
            bytes: 0..4 * SCALARS as u64,
            write: false,
        });
        self.pass(
            vec![part!("kronecker/collocation_direction.wgsl")],
            false,
            Rounded::default(),
            [
                vec![Operand::read(z), state.clone()],
                vec![Operand::write(direction)],
            ],
        )?;
        self.pass(
            vec![
                part!("kronecker/collocation_derive.wgsl"),
                self.derivative(),
            ],
            true,
            Rounded::default(),
            [vec![Operand::read(direction)], vec![Operand::write(t)]],
        )?;
        let square = |at: usize, n: usize| Some((at, Factor::dense(n, n)));
        let turned = |at: usize, n: usize| Some((at, Factor::dense(n, n).transpose()));
        let once = Numbers::default();
        if self.sizes.slope {
            self.product([turned(2, n), turned(3, m)], once, [t, s])?;
            self.product([turned(2, n), turned(3, m)], once, [direction, q])?;
            self.pass(
                vec![part!("kronecker/collocation_fit.wgsl")],
                false,
                Rounded::default(),
                [
                    vec![self.whole(SLOPE)?, Operand::read(q)],
                    vec![Operand::write(s), Operand::write(c)],
                ],
            )?;
            self.product([square(2, n), square(3, m)], once, [s, t])?;
        } else {
            self.product([square(0, n), square(1, m)], once, [t, s])?;
        }
        let pulled = if self.sizes.slope { t } else { s };
        let gain = Rounded {
            gain: self.sizes.v as f32,
            ..Rounded::default()
        };
        self.pass(
            vec![
                part!("kronecker/collocation_gather.wgsl"),
                self.derivative(),
            ],
            true,
            gain,
            [
                vec![Operand::read(pulled), Operand::read(direction)],
                vec![Operand::write(q)],
            ],
        )?;
        let adding = |alpha: f64| Numbers {
            alpha: alpha as f32,
            beta: 1.0,
        };
        if self.sizes.slope {
            self.product([square(2, n), square(3, m)], adding(self.sizes.v), [c, q])?;
        }
        let [k, l] = self.sizes.ends;
        if k > 0 {
            self.product(
                [Some((4, Factor::dense(k, n).transpose())), square(1, m)],
                once,
                [direction, t],
            )?;
            self.product(
                [Some((4, Factor::dense(k, n))), None],
                adding(self.sizes.bound),
                [t, q],
            )?;
        }
        if l > 0 {
            self.product(
                [square(0, n), Some((5, Factor::dense(l, m).transpose()))],
                once,
                [direction, t],
            )?;
            self.product(
                [None, Some((5, Factor::dense(l, m)))],
                adding(self.sizes.bound),
                [t, q],
            )?;
        }
        let dots = RowSums::dots([direction, q], (self.sums, 0));
        dots.steps(&mut self.builder, self.caps, self.sizes.len(), 1)?;
        self.scalars(Stage::Curvature);
        self.pass(
            vec![part!("kronecker/collocation_step.wgsl")],
            false,
            Rounded::default(),
            [
                vec![Operand::read(direction), Operand::read(q), state],
                vec![Operand::write(y), Operand::write(r)],
            ],
        )?;
        self.precondition()?;
        self.scalars(Stage::Residual);
        Ok(())
    }

    fn finished(self, label: String, iterations: usize) -> Result<Plan> {
        let [n, m] = self.sizes.points.map(|n| n as f64);
        let products = if self.sizes.slope { 4.0 } else { 1.0 };
        let plan = self.builder.plan(
            OP,
            label,
            Work {
                flops: iterations as f64 * products * 2.0 * n * m * (n + m),
                bytes: iterations as f64 * 4.0 * (n * n + m * m + 8.0 * n * m),
                ..Work::default()
            },
        );
        plan.check(self.caps)?;
        Ok(plan)
    }
}

pub(super) fn begin(sizes: Sizes, tolerance: f64, caps: &Caps) -> Result<Plan> {
    let mut planner = Planner::new(sizes, tolerance, STATE, caps);
    planner.begin()?;
    planner.finished("beginning".into(), 0)
}

pub(super) fn iterate(sizes: Sizes, tolerance: f64, count: usize, caps: &Caps) -> Result<Plan> {
    let mut planner = Planner::new(sizes, tolerance, STATE, caps);
    let vectors = [(); 4].map(|()| planner.scratch());
    for _ in 0..count {
        planner.iterate(vectors)?;
    }
    planner.finished(format!("{count} iterations"), count)
}

/// Plans a whole solution of so many iterations, of which those after convergence change nothing. Inputs: G1, G2, T1, T2, B1 and B2 one
/// after another (the T only with a slope), the tables of e, the preconditioner's vectors, the slope; outputs: y and r, which hold 0 and
/// the right side before.
#[cfg(feature = "cli")]
pub(super) fn plan(sizes: Sizes, tolerance: f64, iterations: usize, caps: &Caps) -> Result<Plan> {
    let mut planner = Planner::new(sizes, tolerance, STATE, caps);
    let [z, direction] = [(); 2].map(|()| planner.scratch());
    let scalars = planner.builder.add_scratch(4 * SCALARS as u64);
    planner.state = State {
        z,
        direction,
        scalars,
        ..STATE
    };
    planner.begin()?;
    let vectors = [(); 4].map(|()| planner.scratch());
    for _ in 0..iterations {
        planner.iterate(vectors)?;
    }
    planner.finished(format!("{iterations} iterations"), iterations)
}
