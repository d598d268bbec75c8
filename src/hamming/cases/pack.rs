//! `pack_bits`, `unpack_bits` and `popcounts`.

use serde_json::json;

use super::{exact, expect, words_of};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::{
        bits::words,
        cpu,
        pack::{self, Compare, PackShape},
        simd,
    },
    plan::Plan,
};

/// The entry of `pack_bits` in the table of operators.
pub(crate) const PACK: Op = Op {
    name: pack::PACK,
    bind: bind_pack,
    builtin: builtin_pack,
    benches: benches_pack,
};

/// The entry of `unpack_bits`.
pub(crate) const UNPACK: Op = Op {
    name: pack::UNPACK,
    bind: bind_unpack,
    builtin: || {
        vec![
            made_codes(pack::UNPACK, "unpack_70", [5, 70]),
            made_codes(pack::UNPACK, "unpack_none", [0, 70]),
        ]
    },
    benches: |class| benches_codes(pack::UNPACK, class),
};

/// The entry of `popcounts`.
pub(crate) const POPCOUNTS: Op = Op {
    name: pack::POPCOUNTS,
    bind: bind_popcounts,
    builtin: || vec![made_codes(pack::POPCOUNTS, "popcounts_70", [90, 70])],
    benches: |class| benches_codes(pack::POPCOUNTS, class),
};

struct Packing {
    shape: PackShape,
    compare: Compare,
    scalar: Option<f32>,
    /// x, and the thresholds unless there is one for all.
    inputs: Vec<Array>,
}

fn bind_pack(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, dims] = case.axes("x", "[rows, dims]")?;
    let x = case.input("x")?;
    let shape = PackShape {
        rows,
        dims,
        dtype: x.dtype,
    };
    let compare = case.choice(
        "compare",
        &[
            ("greater", Compare::Greater),
            ("greater_equal", Compare::GreaterEqual),
            ("less", Compare::Less),
        ],
    )?;
    let mut inputs = vec![x.clone()];
    let scalar = match case.inputs.contains_key("threshold") {
        true => {
            inputs.push(case.shaped("threshold", Dtype::F32, &[dims])?.clone());
            None
        }
        false => Some(case.number("threshold")?.unwrap_or(0.0) as f32),
    };
    // The planner checks what the shape says.
    pack::plan_pack(&shape, compare, scalar, &Caps::webgpu_floor())?;
    Ok(Box::new(Packing {
        shape,
        compare,
        scalar,
        inputs,
    }))
}

impl Problem for Packing {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![exact("words", &[self.shape.rows, words(self.shape.dims)])]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        Ok(vec![pack::plan_pack(
            &self.shape,
            self.compare,
            self.scalar,
            caps,
        )?])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let mut values = self.inputs.iter().map(Array::values);
        let x = values.next().unwrap_or_default();
        let threshold = match self.scalar {
            Some(number) => vec![number.into()],
            None => values.next().unwrap_or_default(),
        };
        let packed = cpu::pack::pack_bits(&x, self.shape.dims, self.compare, &threshold);
        Ok(vec![expect(packed)])
    }

    fn native(&self) -> Result<Vec<Array>, Error> {
        // Every 16-bit number is an f32.
        let mut values = self
            .inputs
            .iter()
            .map(|input| input.values().into_iter().map(|x| x as f32).collect());
        let x: Vec<f32> = values.next().unwrap_or_default();
        let row: Vec<f32> = values.next().unwrap_or_default();
        let threshold = match self.scalar {
            Some(number) => simd::Threshold::Same(number),
            None => simd::Threshold::Each(&row),
        };
        let (shape, options) = (&self.shape, simd::Options::default());
        let packed = simd::pack_bits(&x, shape.dims, threshold, self.compare, &options)?;
        Ok(vec![Array::u32(&[shape.rows, words(shape.dims)], &packed)])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.shape.rows), ("d", self.shape.dims)]
    }
}

struct Codes {
    op: &'static str,
    rows: usize,
    bits: usize,
    packed: Array,
}

fn bind_codes(case: &Case, op: &'static str) -> Result<Box<dyn Problem>, Failure> {
    let [rows, width] = case.axes("words", "[rows, words]")?;
    let bits = case.needed("bits", case.count("bits")?)?;
    super::super::bits::check_bits(op, bits)?;
    let packed = case.shaped("words", Dtype::U32, &[rows, words(bits)])?;
    debug_assert_eq!(width, words(bits));
    Ok(Box::new(Codes {
        op,
        rows,
        bits,
        packed: packed.clone(),
    }))
}

fn bind_unpack(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    bind_codes(case, pack::UNPACK)
}

fn bind_popcounts(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    bind_codes(case, pack::POPCOUNTS)
}

impl Problem for Codes {
    fn inputs(&self) -> Vec<&Array> {
        vec![&self.packed]
    }

    fn outputs(&self) -> Vec<Output> {
        vec![match self.op {
            pack::UNPACK => Output {
                dtype: Dtype::F32,
                ..exact("x", &[self.rows, self.bits])
            },
            _ => exact("counts", &[self.rows]),
        }]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let sizes = [self.rows, self.bits];
        Ok(vec![match self.op {
            pack::UNPACK => pack::plan_unpack(sizes, [-1.0, 1.0], caps)?,
            _ => pack::plan_popcounts(sizes, caps)?,
        }])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let packed = words_of(&self.packed);
        Ok(vec![match self.op {
            pack::UNPACK => Reference {
                values: cpu::pack::unpack_bits(&packed, self.bits, [-1.0, 1.0]),
                magnitude: Vec::new(),
            },
            _ => expect(cpu::pack::popcounts(&packed, self.bits)),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.rows), ("b", self.bits)]
    }
}

fn made_codes(op: &str, name: &str, [rows, bits]: [usize; 2]) -> Case {
    let packed = Numbers::of(name).words(&[rows, words(bits)]);
    Case::made(name, op, json!({ "bits": bits }), [("words", packed)])
}

fn benches_codes(op: &'static str, class: Class) -> Vec<Bench> {
    let rows = match class {
        Class::Cpu => 20_000,
        _ => 1_000_000,
    };
    let name = format!("{op}/b384_n{rows}");
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || made_codes(op, &name, [rows, 384])),
    }]
}

fn made(name: &str, dtype: Dtype, [rows, dims]: [usize; 2], compare: &str, row: bool) -> Case {
    let mut numbers = Numbers::of(name);
    let mut inputs = vec![("x", numbers.array(dtype, &[rows, dims], 0.0, 1.0))];
    if row {
        inputs.push(("threshold", numbers.array(Dtype::F32, &[dims], 0.0, 1.0)));
    }
    Case::made(name, pack::PACK, json!({ "compare": compare }), inputs)
}

fn builtin_pack() -> Vec<Case> {
    vec![
        made("pack", Dtype::F32, [9, 100], "greater", false),
        made("pack_rows_f16", Dtype::F16, [7, 33], "greater_equal", true),
        made("pack_bf16", Dtype::Bf16, [5, 257], "less", false),
        made("pack_rows_less", Dtype::F32, [3, 1], "less", true),
        made("pack_none", Dtype::F32, [0, 64], "greater", false),
    ]
}

fn benches_pack(class: Class) -> Vec<Bench> {
    let rows = match class {
        Class::Cpu => 20_000,
        _ => 1_000_000,
    };
    let name = format!("{}/f16_d384_n{rows}", pack::PACK);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || made(&name, Dtype::F16, [rows, 384], "greater", false)),
    }]
}
