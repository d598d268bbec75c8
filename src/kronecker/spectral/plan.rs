//! The planner: a product, a scaling, a product.

use bytemuck::bytes_of;

use super::{
    super::{
        matmul::{Entries, Factor, Operator, Options, Product, Shape},
        spectrum::{Combine, Function, Grid, OP, Rounded, Spectrum},
    },
    kernels::{self, GROUP, ScaleParams},
};
use crate::{
    Error, Result,
    gpu::Caps,
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::dispatches,
};

/// Elements that a step takes at once: from a multiple of 64 on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kronecker) struct Elements {
    pub start: u64,
    pub count: u64,
}

impl Elements {
    /// Cuts so many f32 to bindings.
    pub fn cut(all: u64, caps: &Caps) -> impl Iterator<Item = Elements> + use<> {
        let most = (caps.binding_bytes / ALIGN * ALIGN / 4).max(64);
        let start = (0..all).step_by(most as usize);
        start.map(move |start| Elements {
            start,
            count: most.min(all - start),
        })
    }

    /// Those elements of a slot.
    pub fn bind(&self, slot: Slot, write: bool) -> Bind {
        let bytes = 4 * self.start..4 * (self.start + self.count);
        Bind { slot, bytes, write }
    }
}

/// Where what multiplies comes from.
#[derive(Clone, Copy, Debug)]
pub(in crate::kronecker) enum Source {
    /// A function of eigenvalues.
    Function(Rounded, Tables),
    /// A vector of as many elements as a row.
    Vector(Slot),
}

/// Tables of eigenvalues in a slot, one after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::kronecker) struct Tables {
    pub slot: Slot,
    pub combine: Combine,
    /// Entries of each.
    pub sizes: [u32; 3],
}

impl Tables {
    pub fn new(grid: &Grid, slot: Slot) -> Tables {
        let [first, middle, last] = &grid.tables;
        Tables {
            slot,
            combine: grid.combine,
            sizes: [first, middle, last].map(|table| table.len() as u32),
        }
    }

    pub fn bind(&self) -> Bind {
        let entries: u64 = self.sizes.iter().map(|n| u64::from(*n)).sum();
        Bind {
            slot: self.slot,
            bytes: 0..4 * entries,
            write: false,
        }
    }
}

/// A vector of as many elements as a row, whole.
pub(in crate::kronecker) fn vector(slot: Slot, width: u64, caps: &Caps) -> Result<Bind> {
    if 4 * width > caps.binding_bytes {
        return Err(Error::Limit {
            what: "bytes in one binding, for a vector as long as a row,".into(),
            needed: 4 * width,
            available: caps.binding_bytes,
            remedy: "use a device with larger bindings",
        });
    }
    let bytes = 0..4 * width;
    Ok(Bind {
        slot,
        bytes,
        write: false,
    })
}

/// x ← s ∘ x in place, for rows of a width.
pub(in crate::kronecker) fn scale(
    builder: &mut Builder,
    caps: &Caps,
    [rows, width]: [u64; 2],
    source: &Source,
    x: Slot,
) -> Result<()> {
    let (bind, kernel, rounded, sizes) = match source {
        Source::Function(rounded, tables) => {
            let kernel = kernels::scale(tables.combine, rounded.form);
            (tables.bind(), kernel, *rounded, tables.sizes)
        }
        Source::Vector(slot) => {
            let bind = vector(*slot, width, caps)?;
            (bind, kernels::scale_by_vector(), Rounded::default(), [0; 3])
        }
    };
    let [first, middle, last] = sizes;
    let group_ms = 40.0 * GROUP as f64 / (caps.gflops * 1e6);
    for elements in Elements::cut(rows * width, caps) {
        for groups in dispatches(0..elements.count.div_ceil(GROUP), group_ms, caps) {
            let start = groups.start * GROUP;
            let part = Elements {
                start: elements.start + start,
                count: (groups.end * GROUP).min(elements.count) - start,
            };
            let params = ScaleParams {
                count: part.count as u32,
                start: (part.start % width) as u32,
                width: width as u32,
                groups: (groups.end - groups.start) as u32,
                first,
                middle,
                last,
                a: rounded.a,
                shift: rounded.shift,
                gain: rounded.gain,
                power: rounded.power,
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: vec![bind.clone(), part.bind(x, true)],
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms: group_ms * (groups.end - groups.start) as f64,
            });
        }
    }
    Ok(())
}

/// A whole's eigenvectors as a part of plans.
#[derive(Clone, Debug)]
pub(in crate::kronecker) struct Spectral<'a> {
    pub spectrum: &'a Spectrum,
    pub rows: usize,
    operator: Operator,
    /// The eigenvectors, one factor after another.
    entries: Vec<Entries>,
}

impl Spectral<'_> {
    pub fn new(spectrum: &Spectrum, rows: usize, vectors: Slot) -> Spectral<'_> {
        let sides = spectrum.axes().iter().map(|axis| axis.side());
        let operator = Operator::new(sides.clone().map(|n| Factor::dense(n, n)));
        let mut first = 0;
        let entries = sides.map(|n| {
            let own = Entries {
                slot: vectors,
                first,
            };
            first += (n * n) as u64;
            own
        });
        Spectral {
            spectrum,
            rows,
            entries: entries.collect(),
            operator,
        }
    }

    fn product(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        operator: &Operator,
        [x, z]: [Slot; 2],
    ) -> Result<()> {
        let product = Product {
            operator,
            shape: Shape::rows(self.rows),
            options: Options::default(),
            factors: &self.entries,
            x,
            z,
        };
        product.steps(builder, caps)
    }

    /// z = Vᵀ x for each row.
    pub fn analyse(&self, builder: &mut Builder, caps: &Caps, slots: [Slot; 2]) -> Result<()> {
        self.product(builder, caps, &self.operator, slots)
    }

    /// z = V x for each row.
    pub fn synthesise(&self, builder: &mut Builder, caps: &Caps, slots: [Slot; 2]) -> Result<()> {
        self.product(builder, caps, &self.operator.transpose(), slots)
    }

    /// Elements of all rows.
    pub fn elements(&self) -> u64 {
        self.rows as u64 * self.spectrum.len() as u64
    }

    /// The function's numbers in f32, where its tables are in a slot already; a table of the caller's is the plan's.
    pub fn source(
        &self,
        builder: &mut Builder,
        function: &Function,
        values: Slot,
    ) -> Result<Source> {
        function.check(self.spectrum)?;
        if let Function::Table(table) = function {
            let words = table.iter().map(|x| x.to_bits()).collect();
            return Ok(Source::Vector(builder.add_table(words)));
        }
        let rounded = function.rounded(self.spectrum)?;
        Ok(Source::Function(rounded, self.tables(values)))
    }

    /// The tables of eigenvalues in a slot.
    pub fn tables(&self, values: Slot) -> Tables {
        Tables::new(self.spectrum.grid(), values)
    }

    /// Rows and their width.
    pub fn sizes(&self) -> [u64; 2] {
        [self.rows as u64, self.spectrum.len() as u64]
    }

    /// Two products, and every vector once.
    pub fn work(&self) -> Work {
        let sides = self.spectrum.axes().iter().map(|axis| axis.side() as f64);
        let (elements, entries) = (self.elements() as f64, vectors_len(self.spectrum) as f64);
        Work {
            flops: 4.0 * elements * sides.sum::<f64>(),
            bytes: 4.0 * (2.0 * elements + entries),
            ..Work::default()
        }
    }
}

fn vectors_len(spectrum: &Spectrum) -> usize {
    spectrum.axes().iter().map(|axis| axis.side().pow(2)).sum()
}

/// Plans [`spectral()`](super::spectral()). Inputs: b, all eigenvectors one factor after another, the tables of eigenvalues; output: x.
///
/// # Errors
/// As [`spectral()`](super::spectral()), but for those of the device.
pub fn plan(spectrum: &Spectrum, function: &Function, rows: usize, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let spectral = Spectral::new(spectrum, rows, Slot::Input(1));
    let source = spectral.source(&mut builder, function, Slot::Input(2))?;
    if rows > 0 {
        let basis = builder.add_scratch(4 * spectral.elements());
        spectral.analyse(&mut builder, caps, [Slot::Input(0), basis])?;
        scale(&mut builder, caps, spectral.sizes(), &source, basis)?;
        spectral.synthesise(&mut builder, caps, [basis, Slot::Output(0)])?;
    }
    let form = match source {
        Source::Function(rounded, _) => format!("{:?}", rounded.form),
        Source::Vector(_) => "Table".into(),
    };
    let label = format!("{} factors, {form}", spectrum.axes().len());
    let plan = builder.plan(OP, label, spectral.work());
    plan.check(caps)?;
    Ok(plan)
}
