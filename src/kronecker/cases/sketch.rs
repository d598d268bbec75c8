//! `srht`, `tensor_srht` and `fastfood`.

use serde_json::{Value, json};

use super::call::{Call, matrices};
use crate::{
    case::{Array, Bench, Case, Failure, Numbers as Made, Op, Problem},
    gpu::{Class, Dtype},
    kronecker::{
        cpu::sketch as cpu,
        fastfood::{self, Form, Numbers, Scale},
        srht,
        tensor_srht::{self, Columns},
    },
    random::Random,
};

/// The entry of `srht`.
pub(crate) const SRHT: Op = Op {
    name: srht::OP,
    bind: bind_srht,
    builtin: srhts,
    benches: srht_benches,
};

/// The entry of `tensor_srht`.
pub(crate) const TENSOR_SRHT: Op = Op {
    name: tensor_srht::OP,
    bind: bind_tensor,
    builtin: tensors,
    benches: |_| Vec::new(),
};

/// The entry of `fastfood`.
pub(crate) const FASTFOOD: Op = Op {
    name: fastfood::OP,
    bind: bind_fastfood,
    builtin: fastfoods,
    benches: fastfood_benches,
};

const RATIO: f64 = 1e-6;

fn seed(case: &Case) -> Result<Random, Failure> {
    Ok(Random::new(case.count("seed")?.unwrap_or(0) as u64))
}

fn bind_srht(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [len, columns] = case.axes("x", "[rows, columns]")?;
    let x = case.shaped("x", Dtype::F32, &[len, columns])?.clone();
    let (adjoint, random) = (case.flag("adjoint", false)?, seed(case)?);
    let (rows, samples) = match adjoint {
        true => (case.needed("rows", case.count("rows")?)?, len),
        false => (len, case.needed("samples", case.count("samples")?)?),
    };
    let shape = srht::Shape {
        rows,
        columns,
        samples,
    };
    shape.check()?;
    let values = x.values();
    Ok(Box::new(Call {
        inputs: vec![x],
        shape: vec![if adjoint { rows } else { samples }, columns],
        dtype: Dtype::F32,
        ratio: RATIO,
        plans: Box::new(move |caps, _| {
            let plan = match adjoint {
                true => srht::plan_adjoint(&shape, &random, caps),
                false => srht::plan(&shape, &random, caps),
            };
            plan.map(|plan| vec![plan])
        }),
        reference: Box::new(move || match adjoint {
            true => cpu::srht_adjoint(&shape, &random, &values),
            false => cpu::srht(&shape, &random, &values),
        }),
        sizes: vec![("n", rows), ("d", columns), ("m", samples)],
    }))
}

fn bind_tensor(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let random = seed(case)?;
    let columns = case.choice(
        "columns",
        &[
            ("kronecker", Columns::Kronecker),
            ("khatri_rao", Columns::KhatriRao),
        ],
    )?;
    let (inputs, factors): (Vec<Array>, Vec<_>) = matrices(case, "x")?.into_iter().unzip();
    let shape = tensor_srht::Shape {
        factors,
        samples: case.needed("samples", case.count("samples")?)?,
        columns,
    };
    shape.check(tensor_srht::OP)?;
    let values: Vec<Vec<f64>> = inputs.iter().map(Array::values).collect();
    let of = shape.clone();
    Ok(Box::new(Call {
        inputs,
        shape: vec![shape.samples, shape.columns()],
        dtype: Dtype::F32,
        ratio: RATIO,
        plans: Box::new(move |caps, _| {
            tensor_srht::plan(&of, &random, caps).map(|plan| vec![plan])
        }),
        sizes: vec![
            ("factors", shape.factors.len()),
            ("d", shape.columns()),
            ("m", shape.samples),
        ],
        reference: Box::new(move || cpu::tensor_srht(&shape, &random, &values)),
    }))
}

fn bind_fastfood(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [vectors, width] = case.axes("x", "[vectors, width]")?;
    let x = case.shaped("x", Dtype::F32, &[vectors, width])?.clone();
    let (adjoint, random) = (case.flag("adjoint", false)?, seed(case)?);
    let name = if adjoint { "input" } else { "output" };
    let other = case.needed(name, case.count(name)?)?;
    let [input, output] = match adjoint {
        true => [other, width],
        false => [width, other],
    };
    let shape = fastfood::Shape {
        input,
        output,
        form: case.choice(
            "form",
            &[("blocks", Form::Blocks), ("single", Form::Single)],
        )?,
        scale: case.choice(
            "scale",
            &[
                ("rows", Scale::Rows),
                ("columns", Scale::Columns),
                ("gaussian", Scale::Gaussian),
            ],
        )?,
    };
    let numbers = Numbers::new(&shape, &random)?;
    let places = match adjoint {
        true => numbers.inverse(&shape),
        false => numbers.permutation.clone(),
    };
    let axes = [shape.blocks(), shape.block()];
    let values = x.values();
    let mut inputs = vec![
        x,
        Array::rounded(Dtype::F32, &axes, &numbers.gauss),
        Array::u32(&axes, &places),
    ];
    inputs.extend(
        numbers
            .lengths
            .map(|lengths| Array::rounded(Dtype::F32, &[output], &lengths)),
    );
    Ok(Box::new(Call {
        inputs,
        shape: vec![vectors, other],
        dtype: Dtype::F32,
        ratio: RATIO,
        plans: Box::new(move |caps, _| {
            let plan = match adjoint {
                true => fastfood::plan_adjoint(&shape, &random, vectors, caps),
                false => fastfood::plan(&shape, &random, vectors, caps),
            };
            plan.map(|plan| vec![plan])
        }),
        reference: Box::new(move || cpu::fastfood(&shape, &random, vectors, adjoint, &values)),
        sizes: vec![("m", vectors), ("input", input), ("output", output)],
    }))
}

fn made(name: &str, op: &str, params: Value, axes: [usize; 2]) -> Case {
    let x = Made::of(name).array(Dtype::F32, &axes, 0.0, 1.0);
    Case::made(name, op, params, [("x", x)])
}

fn srhts() -> Vec<Case> {
    let forward = |name: &str, axes, samples: usize| {
        made(
            name,
            srht::OP,
            json!({ "samples": samples, "seed": 5 }),
            axes,
        )
    };
    let adjoint = |name: &str, axes, rows: usize| {
        let params = json!({ "rows": rows, "seed": 5, "adjoint": true });
        made(name, srht::OP, params, axes)
    };
    vec![
        forward("srht_300", [300, 7], 50),
        forward("srht_4096", [4096, 1], 333),
        forward("srht_one", [1, 3], 4),
        adjoint("srht_adjoint_300", [50, 7], 300),
        adjoint("srht_adjoint_often", [700, 3], 5),
        adjoint("srht_adjoint_one", [4, 3], 1),
    ]
}

fn tensors() -> Vec<Case> {
    let names = ["x0", "x1", "x2", "x3"];
    let case = |name: &str, columns: &str, factors: &[[usize; 2]], samples: usize| {
        let mut numbers = Made::of(name);
        let inputs: Vec<_> = names
            .into_iter()
            .zip(factors)
            .map(|(name, axes)| (name, numbers.array(Dtype::F32, axes, 0.0, 1.0)))
            .collect();
        let params = json!({ "columns": columns, "samples": samples, "seed": 8 });
        Case::made(name, tensor_srht::OP, params, inputs)
    };
    vec![
        case(
            "tensor_srht_vectors",
            "kronecker",
            &[[20, 1], [33, 1], [5, 1]],
            65,
        ),
        case("tensor_srht_matrices", "kronecker", &[[40, 3], [17, 5]], 70),
        case(
            "tensor_srht_four",
            "kronecker",
            &[[9, 2], [1, 3], [8, 1], [6, 2]],
            31,
        ),
        case(
            "tensor_srht_columns",
            "khatri_rao",
            &[[40, 6], [17, 6], [9, 6]],
            70,
        ),
    ]
}

fn fastfoods() -> Vec<Case> {
    let case = |name: &str, form: &str, scale: &str, adjoint: bool, sizes: [usize; 3]| {
        let [vectors, input, output] = sizes;
        let width = if adjoint { output } else { input };
        let params = json!({
            "form": form, "scale": scale, "adjoint": adjoint, "input": input, "output": output, "seed": 11
        });
        made(name, fastfood::OP, params, [vectors, width])
    };
    let mut cases = Vec::new();
    for adjoint in [false, true] {
        let name = |what: &str| match adjoint {
            true => format!("fastfood_adjoint_{what}"),
            false => format!("fastfood_{what}"),
        };
        cases.push(case(
            &name("blocks"),
            "blocks",
            "rows",
            adjoint,
            [5, 50, 300],
        ));
        cases.push(case(
            &name("whole"),
            "blocks",
            "columns",
            adjoint,
            [3, 64, 256],
        ));
        cases.push(case(
            &name("features"),
            "blocks",
            "gaussian",
            adjoint,
            [2, 17, 90],
        ));
        cases.push(case(
            &name("single"),
            "single",
            "columns",
            adjoint,
            [2, 20, 5000],
        ));
    }
    cases.push(case("fastfood_none", "blocks", "rows", false, [0, 8, 8]));
    cases
}

fn srht_benches(_: Class) -> Vec<Bench> {
    let name = format!("{}/n131072_d8_m1024", srht::OP);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || {
            let params = json!({ "samples": 1024, "seed": 5 });
            made(&name, srht::OP, params, [1 << 17, 8])
        }),
    }]
}

fn fastfood_benches(_: Class) -> Vec<Bench> {
    let name = format!("{}/m16_512_to_65536", fastfood::OP);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || {
            let params = json!({ "output": 65_536, "seed": 5 });
            made(&name, fastfood::OP, params, [16, 512])
        }),
    }]
}
