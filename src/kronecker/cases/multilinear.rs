//! `dct`, `tucker`, `khatri_rao` and `mttkrp`.

use serde_json::{Value, json};

use super::call::{Call, matrices};
use crate::{
    case::{Array, Bench, Case, Failure, Numbers, Op, Problem},
    gpu::{Class, Dtype},
    kronecker::{
        cpu::multilinear as cpu,
        dct::{self, Form, Kind},
        khatri_rao::{self, Shape},
        mttkrp, tucker,
    },
};

/// The entry of `dct`.
pub(crate) const DCT: Op = Op {
    name: dct::OP,
    bind: bind_dct,
    builtin: dcts,
    benches: dct_benches,
};

/// The entry of `tucker`.
pub(crate) const TUCKER: Op = Op {
    name: tucker::OP,
    bind: bind_tucker,
    builtin: tuckers,
    benches: |_| Vec::new(),
};

/// The entry of `khatri_rao`.
pub(crate) const KHATRI_RAO: Op = Op {
    name: khatri_rao::OP,
    bind: bind_khatri_rao,
    builtin: khatri_raos,
    benches: |_| Vec::new(),
};

/// The entry of `mttkrp`.
pub(crate) const MTTKRP: Op = Op {
    name: mttkrp::OP,
    bind: bind_mttkrp,
    builtin: mttkrps,
    benches: mttkrp_benches,
};

fn bind_dct(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let x = case.input("x")?;
    let x = case.shaped("x", Dtype::F32, &x.shape)?.clone();
    let Some((rows, sizes)) = x.shape.split_first() else {
        return Err(case.wrong("tensor x must be [rows, n_0, n_1, …]"));
    };
    let words = case.params.get("kinds").and_then(Value::as_array);
    let words: Vec<&str> = words
        .map(|words| words.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let kind = |word: &&str| match *word {
        "none" => Some(Kind::Identity),
        "dct2" => Some(Kind::Dct2),
        "dct3" => Some(Kind::Dct3),
        "dst1" => Some(Kind::Dst1),
        _ => None,
    };
    let kinds: Option<Vec<Kind>> = words.iter().map(kind).collect();
    let Some(kinds) = kinds.filter(|kinds| kinds.len() == sizes.len()) else {
        let message = "parameter kinds must be a list of dct2, dct3, dst1 or none, one for each axis after the first";
        return Err(case.wrong(message));
    };
    let shape = dct::Shape {
        rows: *rows,
        modes: sizes.iter().copied().zip(kinds).collect(),
        form: Form::Auto,
    };
    shape.check()?;
    let values = x.values();
    let of = shape.clone();
    Ok(Box::new(Call {
        shape: x.shape.clone(),
        sizes: vec![("m", *rows), ("n", sizes.iter().product())],
        inputs: vec![x],
        dtype: Dtype::F32,
        ratio: 1e-6,
        plans: Box::new(move |caps, all| {
            let mut plans = vec![dct::plan(&of, caps)?];
            // Long modes as products take long, and are tables of megabytes.
            let short = of.modes.iter().all(|(n, _)| *n <= 512);
            let forms = [Form::Dense, Form::Fast]
                .into_iter()
                .filter(|_| all && short);
            for form in forms {
                let plan = dct::plan(&dct::Shape { form, ..of.clone() }, caps)?;
                if !plans.iter().any(|other| other.steps == plan.steps) {
                    plans.push(plan);
                }
            }
            Ok(plans)
        }),
        reference: Box::new(move || cpu::dct(&shape, &values)),
    }))
}

fn values(arrays: &[Array]) -> Vec<Vec<f64>> {
    arrays.iter().map(Array::values).collect()
}

fn bind_tucker(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let (factors, sizes): (Vec<Array>, Vec<[usize; 2]>) = matrices(case, "u")?.into_iter().unzip();
    let reconstruct = case.choice("direction", &[("reconstruct", true), ("project", false)])?;
    let x = case.input("x")?;
    let rows = x.shape.first().copied().unwrap_or(0);
    let shape = tucker::Shape {
        rows,
        factors: sizes.clone(),
    };
    let axes = |which: usize| -> Vec<usize> {
        let own = sizes.iter().filter_map(|size| size.get(which).copied());
        [rows].into_iter().chain(own).collect()
    };
    let (from, to) = match reconstruct {
        true => (axes(1), axes(0)),
        false => (axes(0), axes(1)),
    };
    let x = case.shaped("x", Dtype::F32, &from)?.clone();
    let (of, numbers) = (shape.clone(), [values(&factors), vec![x.values()]]);
    Ok(Box::new(Call {
        inputs: [x].into_iter().chain(factors).collect(),
        shape: to,
        dtype: Dtype::F32,
        ratio: 2e-6,
        plans: Box::new(move |caps, _| tucker::plan(&of, reconstruct, caps).map(|plan| vec![plan])),
        sizes: vec![("n", shape.tensor_len()), ("r", shape.core_len())],
        reference: Box::new(move || {
            let [factors, x] = &numbers;
            cpu::tucker(&shape, reconstruct, factors, &x.concat())
        }),
    }))
}

/// The factors f0, f1, …: sizes, rank, tensors. One of them may be missing, whose size and place are given.
fn factors(case: &Case, missing: Option<[usize; 2]>) -> Result<(Shape, Vec<Array>), Failure> {
    let found = matrices(case, "f")?;
    let rank = found.first().map_or(0, |(_, [_, rank])| *rank);
    if found.iter().any(|(_, [_, own])| *own != rank) {
        return Err(case.wrong("tensors f0, f1, … must have as many columns each"));
    }
    let mut sizes: Vec<usize> = found.iter().map(|(_, [size, _])| *size).collect();
    if let Some([place, size]) = missing {
        sizes.insert(place.min(sizes.len()), size);
    }
    let arrays = found.into_iter().map(|(array, _)| array).collect();
    Ok((Shape { sizes, rank }, arrays))
}

fn bind_khatri_rao(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let (wrt, size) = (case.count("factor")?, case.count("size")?);
    let missing = match (wrt, size) {
        (Some(factor), Some(size)) => Some([factor, size]),
        (None, None) => None,
        _ => return Err(case.wrong("parameters factor and size go together, for the adjoint")),
    };
    let (shape, arrays) = factors(case, missing)?;
    shape.check(khatri_rao::OP)?;
    let numbers = values(&arrays);
    let of = shape.clone();
    let sizes = vec![("n", shape.len() / shape.rank), ("r", shape.rank)];
    let Some([factor, size]) = missing else {
        return Ok(Box::new(Call {
            inputs: arrays,
            shape: vec![shape.len() / shape.rank, shape.rank],
            dtype: Dtype::F32,
            ratio: 1e-6,
            plans: Box::new(move |caps, _| khatri_rao::plan(&of, caps).map(|plan| vec![plan])),
            reference: Box::new(move || cpu::khatri_rao(&shape, &numbers)),
            sizes,
        }));
    };
    khatri_rao::check_mode(khatri_rao::OP, "factor", &shape, factor)?;
    let axes = [shape.len() / shape.rank, shape.rank];
    let y = case.shaped("y", Dtype::F32, &axes)?.clone();
    let given = y.values();
    Ok(Box::new(Call {
        inputs: [y].into_iter().chain(arrays).collect(),
        shape: vec![size, shape.rank],
        dtype: Dtype::F32,
        ratio: 2e-6,
        plans: Box::new(move |caps, _| {
            khatri_rao::plan_adjoint(&of, factor, caps).map(|plan| vec![plan])
        }),
        reference: Box::new(move || cpu::khatri_rao_adjoint(&shape, factor, &given, &numbers)),
        sizes,
    }))
}

fn bind_mttkrp(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    if case.flag("adjoint", false)? {
        let (shape, arrays) = factors(case, None)?;
        shape.check(mttkrp::OP)?;
        let numbers = values(&arrays);
        let of = shape.clone();
        return Ok(Box::new(Call {
            inputs: arrays,
            shape: shape.sizes.clone(),
            dtype: Dtype::F32,
            ratio: 2e-6,
            plans: Box::new(move |caps, _| mttkrp::plan_adjoint(&of, caps).map(|plan| vec![plan])),
            sizes: vec![("n", shape.len() / shape.rank), ("r", shape.rank)],
            reference: Box::new(move || cpu::mttkrp_adjoint(&shape, &numbers)),
        }));
    }
    let mode = case.needed("mode", case.count("mode")?)?;
    let x = case.input("x")?;
    let Some(size) = x.shape.get(mode) else {
        return Err(case.wrong(format!(
            "parameter mode must be an axis of tensor x, got {mode}"
        )));
    };
    let (shape, arrays) = factors(case, Some([mode, *size]))?;
    shape.check(mttkrp::OP)?;
    let x = case.shaped("x", Dtype::F32, &shape.sizes)?.clone();
    let (numbers, given) = (values(&arrays), x.values());
    let of = shape.clone();
    Ok(Box::new(Call {
        inputs: [x].into_iter().chain(arrays).collect(),
        shape: vec![*shape.sizes.get(mode).unwrap_or(&0), shape.rank],
        dtype: Dtype::F32,
        ratio: 2e-6,
        plans: Box::new(move |caps, _| mttkrp::plan(&of, mode, caps).map(|plan| vec![plan])),
        sizes: vec![("n", shape.len() / shape.rank), ("r", shape.rank)],
        reference: Box::new(move || cpu::mttkrp(&shape, mode, &given, &numbers)),
    }))
}

fn dct_case(name: &str, axes: &[usize], kinds: &[&str]) -> Case {
    let x = Numbers::of(name).array(Dtype::F32, axes, 0.0, 1.0);
    Case::made(name, dct::OP, json!({ "kinds": kinds }), [("x", x)])
}

fn dcts() -> Vec<Case> {
    vec![
        dct_case("dct_8x8", &[20, 8, 8], &["dct2", "dct2"]),
        dct_case("dct_63_sines", &[3, 63, 5], &["dst1", "none"]),
        dct_case("dct_mixed", &[2, 6, 5, 7], &["dct3", "dst1", "dct2"]),
        dct_case("dct_one", &[3, 1], &["dct2"]),
        dct_case("dct_64_inner", &[2, 64, 9], &["dct2", "none"]),
        dct_case("dct_128_three", &[2, 3, 128], &["none", "dct3"]),
        dct_case("dct_2048", &[2, 2048], &["dct2"]),
        dct_case("dct_4096_three", &[1, 4096], &["dct3"]),
        dct_case("dct_1024_both", &[1, 1024, 3], &["dct2", "dct2"]),
        dct_case("dct_none", &[0, 16], &["dct2"]),
    ]
}

fn dct_benches(_: Class) -> Vec<Bench> {
    let sizes: [(&str, &'static [usize], &'static [&'static str]); 3] = [
        ("m256_n64x64", &[256, 64, 64], &["dct2", "dct2"]),
        ("m256_n4096", &[256, 4096], &["dct2"]),
        (
            "n63x63x63_sines",
            &[1, 63, 63, 63],
            &["dst1", "dst1", "dst1"],
        ),
    ];
    let bench = |(size, axes, kinds): (&str, &'static [usize], &'static [&'static str])| {
        let name = format!("{}/{size}", dct::OP);
        Bench {
            name: name.clone(),
            make: Box::new(move || dct_case(&name, axes, kinds)),
        }
    };
    sizes.map(bench).into()
}

fn tuckers() -> Vec<Case> {
    let case = |name: &str, rows: usize, sizes: &[[usize; 2]], reconstruct: bool| {
        let mut numbers = Numbers::of(name);
        let own = sizes.iter().map(|[n, r]| if reconstruct { *r } else { *n });
        let axes: Vec<usize> = [rows].into_iter().chain(own).collect();
        let mut inputs = vec![("x", numbers.array(Dtype::F32, &axes, 0.0, 1.0))];
        for (name, axes) in ["u0", "u1", "u2", "u3"].into_iter().zip(sizes) {
            inputs.push((name, numbers.array(Dtype::F32, axes, 0.0, 1.0)));
        }
        let direction = if reconstruct {
            "reconstruct"
        } else {
            "project"
        };
        Case::made(name, tucker::OP, json!({ "direction": direction }), inputs)
    };
    let sizes = [[20, 4], [17, 3], [9, 5]];
    vec![
        case("tucker_reconstruct", 1, &sizes, true),
        case("tucker_project", 2, &sizes, false),
        case("tucker_reconstruct_two", 3, &[[33, 2], [5, 4]], true),
    ]
}

const NAMES: [&str; 4] = ["f0", "f1", "f2", "f3"];

fn khatri_raos() -> Vec<Case> {
    let case = |name: &str, sizes: &[usize], rank: usize, factor: Option<usize>| {
        let mut numbers = Numbers::of(name);
        let mut inputs = Vec::new();
        let others = sizes.iter().enumerate().filter(|(n, _)| Some(*n) != factor);
        for (name, (_, size)) in NAMES.into_iter().zip(others) {
            inputs.push((name, numbers.array(Dtype::F32, &[*size, rank], 0.0, 1.0)));
        }
        let mut params = json!({});
        if let Some(factor) = factor {
            let axes = [sizes.iter().product(), rank];
            inputs.push(("y", numbers.array(Dtype::F32, &axes, 0.0, 1.0)));
            params = json!({ "factor": factor, "size": sizes.get(factor) });
        }
        Case::made(name, khatri_rao::OP, params, inputs)
    };
    vec![
        case("khatri_rao_two", &[70, 33], 5, None),
        case("khatri_rao_four", &[3, 7, 1, 20], 3, None),
        case("khatri_rao_adjoint_first", &[40, 33], 5, Some(0)),
        case("khatri_rao_adjoint_middle", &[6, 7, 5, 9], 4, Some(2)),
        case("khatri_rao_adjoint_last", &[9, 5, 21], 7, Some(2)),
    ]
}

fn mttkrp_case(name: &str, sizes: &[usize], rank: usize, mode: Option<usize>) -> Case {
    let mut numbers = Numbers::of(name);
    let mut inputs = Vec::new();
    let others = sizes.iter().enumerate().filter(|(n, _)| Some(*n) != mode);
    for (name, (_, size)) in NAMES.into_iter().zip(others) {
        inputs.push((name, numbers.array(Dtype::F32, &[*size, rank], 0.0, 1.0)));
    }
    if mode.is_some() {
        inputs.push(("x", numbers.array(Dtype::F32, sizes, 0.0, 1.0)));
    }
    let params = json!({ "mode": mode, "adjoint": mode.is_none() });
    Case::made(name, mttkrp::OP, params, inputs)
}

fn mttkrps() -> Vec<Case> {
    vec![
        mttkrp_case("mttkrp_first", &[13, 20, 17], 6, Some(0)),
        mttkrp_case("mttkrp_middle", &[13, 20, 17], 6, Some(1)),
        mttkrp_case("mttkrp_last", &[13, 20, 17], 6, Some(2)),
        mttkrp_case("mttkrp_four_second", &[5, 6, 7, 8], 3, Some(1)),
        mttkrp_case("mttkrp_four_last", &[5, 6, 7, 8], 3, Some(3)),
        mttkrp_case("mttkrp_matrix_first", &[30, 41], 4, Some(0)),
        mttkrp_case("mttkrp_matrix_last", &[30, 41], 4, Some(1)),
        mttkrp_case("mttkrp_adjoint", &[13, 20, 17], 6, None),
        mttkrp_case("mttkrp_adjoint_matrix", &[30, 41], 4, None),
    ]
}

fn mttkrp_benches(_: Class) -> Vec<Bench> {
    let name = format!("{}/n128x128x128_r16", mttkrp::OP);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || mttkrp_case(&name, &[128; 3], 16, Some(0))),
    }]
}
