//! Matrix units: what kernels that use them are made of, and what a device must show before one is planned.

use std::sync::Arc;

use super::{Gpu, Kernel, Matrices, Needs, Part, Spec, part};
use crate::{
    Result,
    plan::{Bind, Builder, Slot, Step, Work},
};

/// Subgroups of the workgroup that is tested.
const UNITS: u32 = 4;

impl Matrices {
    /// The functions on squares that a kernel calls.
    pub(crate) fn parts(self) -> Vec<Part> {
        if !self.native {
            return vec![part!("matrix/plain.wgsl")];
        }
        let square = match self.side {
            8 => part!("matrix/square_8.wgsl"),
            _ => part!("matrix/square_16.wgsl"),
        };
        vec![part!("matrix/native.wgsl"), square]
    }

    /// The constants that those functions ask for, and how many units of LANES invocations a workgroup has.
    pub(crate) fn spec(self, units: u32) -> Spec {
        Spec::default()
            .with("SIDE", self.side)
            .with("LANES", self.lanes)
            .with("UNITS", units)
    }

    /// What a plan's label says of them.
    pub(crate) fn label(self) -> String {
        let plain = if self.native {
            ""
        } else {
            ", in plain arithmetic"
        };
        format!(", matrix units of {}{plain}", self.side)
    }

    /// What such a kernel needs.
    pub(crate) fn needs(self) -> Needs {
        Needs {
            f16: true,
            subgroup: true,
            matrices: self.native,
            ..Needs::default()
        }
    }

    fn self_test(self, parts: Vec<Part>) -> Kernel {
        let square = self.side * self.side;
        Kernel {
            name: "matrix/self_test",
            parts: [part!("matrix/self_test.wgsl")]
                .into_iter()
                .chain(parts)
                .collect(),
            spec: self.spec(UNITS),
            needs: self.needs(),
            params: &[],
            workgroup: [UNITS * self.lanes, 1, 1],
            workgroup_bytes: 2 * 2 * UNITS * square + 4 * UNITS * square,
        }
    }
}

/// Whether these functions compute what they should on the device: products of whole numbers, which are exact.
pub(super) fn work(gpu: &Gpu, matrices: Matrices, parts: Vec<Part>) -> Result<bool> {
    let side = matrices.side as usize;
    let square = side * side;
    let units = UNITS as usize;
    let given: Vec<f32> = (0..3 * units * square)
        .map(|e| ((e * e + 5 * e) % 23) as f32 - 11.0)
        .collect();
    let mut builder = Builder::default();
    let bind = |slot, squares: usize, write| Bind {
        slot,
        bytes: 0..(4 * squares * units * square) as u64,
        write,
    };
    builder.steps.push(Step {
        kernel: Arc::new(matrices.self_test(parts)),
        bind: vec![
            bind(Slot::Input(0), 3, false),
            bind(Slot::Output(0), 4, true),
        ],
        params: Vec::new(),
        groups: 1,
        predicted_ms: 0.0,
    });
    let plan = builder.plan("self-test", "matrix units".into(), Work::default());
    plan.check(gpu.caps())?;
    let input = gpu.upload(&given)?;
    let mut found = gpu.zeros::<f32>(4 * units * square)?;
    let mut pass = gpu.pass("self-test");
    pass.run(&plan, &[input.view()], &mut [found.view_mut()])?;
    pass.submit()?;
    let expected = (given.chunks(3 * square)).flat_map(|own| expected(own, side));
    Ok(found.download()?.into_iter().eq(expected))
}

/// C + A B, C + Aᵀ B, C + A Bᵀ and C + Aᵀ Bᵀ of one unit's squares A, B and C.
fn expected(own: &[f32], side: usize) -> Vec<f32> {
    let at = |e: usize| own.get(e).copied().unwrap_or(f32::NAN);
    let square = side * side;
    let entry = |turn: usize, i: usize, j: usize| {
        let term = |k: usize| {
            let a = if turn & 1 == 0 {
                i * side + k
            } else {
                k * side + i
            };
            let b = if turn & 2 == 0 {
                k * side + j
            } else {
                j * side + k
            };
            at(a) * at(square + b)
        };
        at(2 * square + i * side + j) + (0..side).map(term).sum::<f32>()
    };
    (0..4 * square)
        .map(|e| entry(e / square, e % square / side, e % side))
        .collect()
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::{super::Caps, *};
    use crate::{gpu::Select, translate::translate};

    #[test]
    fn kernels_for_matrix_units_translate() {
        for (side, lanes) in [(16, 32), (16, 64), (8, 32)] {
            let units = Matrices {
                side,
                lanes,
                native: true,
            };
            let found = translate(&units.self_test(units.parts())).unwrap();
            assert_eq!(found.msl.is_some(), side == 8);
        }
    }

    #[test]
    fn units_are_used_where_they_are_listed_and_subgroups_have_one_size() {
        let of = |name: &str| {
            let mut presets = Caps::presets().into_iter();
            presets.find(|caps| caps.name == name).unwrap().matrices
        };
        let units = |side| {
            Some(Matrices {
                side,
                lanes: 32,
                native: true,
            })
        };
        assert_eq!(of("NVIDIA"), units(16));
        assert_eq!(of("Apple"), units(8));
        for without in ["lavapipe", "AMD", "Intel", "WebGPU floor"] {
            assert_eq!(of(without), None, "{without}");
        }
    }

    #[test]
    fn the_test_accepts_what_is_right_and_refuses_what_is_wrong() {
        let Ok(gpu) = Gpu::open(&Select::default()) else {
            println!("skipped: no adapter");
            return;
        };
        assert_eq!(
            gpu.caps().matrices.is_some(),
            gpu.caps().listed_matrices().is_some()
        );
        for side in [16, 8] {
            let Some(caps) = gpu.caps().with_plain_matrices(side) else {
                println!("skipped: no subgroups of one size");
                return;
            };
            let units = caps.matrices.unwrap();
            assert!(work(&gpu, units, units.parts()).unwrap());
            // Units that take B by rows for B by columns, and such as lose a term.
            let wrong = [
                (
                    "j * stride + k",
                    "Right(at, 1u, stride)",
                    "Right(at, stride, 1u)",
                ),
                (
                    "a term short",
                    "< row + SIDE * a.step",
                    "< row + (SIDE - 1u) * a.step",
                ),
            ];
            for (name, right, wrong) in wrong {
                let text = part!("matrix/plain.wgsl").text.replace(right, wrong);
                assert_ne!(text, part!("matrix/plain.wgsl").text);
                let part = Part {
                    path: name,
                    text: text.leak(),
                };
                assert!(!work(&gpu, units, vec![part]).unwrap(), "{name}");
            }
            // A kernel that does not compile is an error, never a panic.
            let broken = Part {
                path: "broken",
                text: "nonsense",
            };
            assert!(work(&gpu, units, vec![broken]).is_err());
        }
    }
}
