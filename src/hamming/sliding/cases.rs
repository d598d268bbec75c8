//! `sliding_hamming` as the program, the tests and the benches see it.

use serde_json::{Value, json};

use super::{Classes, Facts, Method, OP as NAME, Options, Pattern, Shape, plan};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::cpu::sliding as cpu,
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Sliding {
    shape: Shape,
    /// The text, and its mask.
    inputs: Vec<Array>,
    symbols: Vec<u32>,
    wild: Option<Vec<u32>>,
    pattern: Pattern,
    classes: Option<Classes>,
    method: Method,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let text = text(case)?;
    let [m] = case.axes("pattern", "[symbols]")?;
    let given = case.shaped("pattern", text.shape.dtype, &[m])?;
    let mut pattern = Pattern::new(&symbols(given));
    pattern.wild = mask(case, "pattern_wild", &[m.div_ceil(32)])?;
    let methods = [Method::Auto].into_iter().chain(Method::ALL);
    let methods: Vec<_> = methods.map(|method| (method.name(), method)).collect();
    let sliding = Sliding {
        classes: classes(case)?,
        method: case.choice("method", &methods)?,
        pattern,
        inputs: text.inputs,
        symbols: text.symbols,
        wild: text.wild,
        shape: text.shape,
    };
    plan::check(
        &sliding.shape,
        &sliding.pattern,
        &sliding.options(sliding.method),
    )?;
    Ok(Box::new(sliding))
}

/// The text of a case.
pub(super) struct CaseText {
    pub shape: Shape,
    pub inputs: Vec<Array>,
    pub symbols: Vec<u32>,
    pub wild: Option<Vec<u32>>,
}

pub(super) fn text(case: &Case) -> Result<CaseText, Failure> {
    let [n] = case.axes("text", "[symbols]")?;
    let text = case.input("text")?;
    let wild = mask(case, "text_wild", &[n.div_ceil(32)])?;
    let mask = case.inputs.get("text_wild").cloned();
    Ok(CaseText {
        shape: Shape {
            len: n,
            dtype: text.dtype,
            wild: wild.is_some(),
        },
        inputs: [text.clone()].into_iter().chain(mask).collect(),
        symbols: symbols(text),
        wild,
    })
}

/// A mask, where the case has one.
pub(super) fn mask(case: &Case, name: &str, shape: &[usize]) -> Result<Option<Vec<u32>>, Failure> {
    if !case.inputs.contains_key(name) {
        return Ok(None);
    }
    Ok(Some(symbols(case.shaped(name, Dtype::U32, shape)?)))
}

pub(super) fn classes(case: &Case) -> Result<Option<Classes>, Failure> {
    let iupac = case.choice("classes", &[("none", false), ("iupac", true)])?;
    Ok(iupac.then(Classes::iupac))
}

pub(super) fn symbols(array: &Array) -> Vec<u32> {
    array.values().into_iter().map(|x| x as u32).collect()
}

pub(super) fn exact(name: &'static str, shape: Vec<usize>) -> Output {
    Output {
        name,
        dtype: Dtype::U32,
        shape,
        ratio: 0.0,
        per_magnitude: 0.0,
        per_value: 0.0,
    }
}

pub(super) fn reference(values: impl IntoIterator<Item = u32>) -> Reference {
    Reference {
        values: values.into_iter().map(f64::from).collect(),
        magnitude: Vec::new(),
    }
}

impl Sliding {
    fn options(&self, method: Method) -> Options<'_> {
        Options {
            method,
            classes: self.classes.as_ref(),
            facts: Facts::of(&self.symbols, &self.pattern),
        }
    }

    fn text(&self) -> cpu::Text<'_> {
        cpu::Text {
            symbols: &self.symbols,
            wild: self.wild.as_deref(),
        }
    }
}

impl Problem for Sliding {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let positions = self.shape.outputs(self.pattern.symbols_len());
        vec![exact("distance", vec![positions])]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let options = self.options(self.method);
        let mut methods = match self.method {
            Method::Auto => plan::methods(&self.shape, &self.pattern, &options, caps),
            method => vec![method],
        };
        if !all {
            methods.truncate(1);
        }
        let plan = |method| {
            let options = self.options(method);
            plan::sliding(&self.shape, &self.pattern, &options, caps)
        };
        methods.into_iter().map(plan).collect()
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let found = cpu::sliding(&self.text(), &self.pattern, self.classes.as_ref())?;
        Ok(vec![reference(found)])
    }

    fn native(&self) -> Result<Vec<Array>, Error> {
        let found = cpu::native(&self.text(), &self.pattern, self.classes.as_ref())?;
        Ok(vec![Array::u32(&[found.len()], &found)])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let mut symbols: Vec<u32> = self.pattern.tame().map(|(_, symbol)| symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        vec![
            ("n", self.shape.len),
            ("m", self.pattern.symbols_len()),
            ("s", symbols.len()),
        ]
    }
}

/// Symbols 0 .. of a type, from a linear congruential generator.
pub(super) fn random(numbers: &mut Numbers, dtype: Dtype, len: usize, alphabet: usize) -> Array {
    let drawn: Vec<u32> = (0..len).map(|_| numbers.below(alphabet) as u32).collect();
    match dtype {
        Dtype::U8 => bytes(drawn.into_iter().map(|symbol| symbol as u8).collect()),
        _ => Array::u32(&[len], &drawn),
    }
}

pub(super) fn bytes(bytes: Vec<u8>) -> Array {
    Array {
        dtype: Dtype::U8,
        shape: vec![bytes.len()],
        bytes,
    }
}

/// A mask in which one symbol of eight is set, and garbage beyond the end.
pub(super) fn sparse(numbers: &mut Numbers, shape: &[usize]) -> Array {
    let words: usize = shape.iter().product();
    let word = |_| numbers.word() & numbers.word() & numbers.word();
    Array::u32(shape, &(0..words).map(word).collect::<Vec<_>>())
}

/// A case from a formula: random symbols below `alphabet`.
fn made(name: &str, dtype: Dtype, [n, m, alphabet]: [usize; 3]) -> Case {
    let mut numbers = Numbers::of(name);
    let inputs = [
        ("text", random(&mut numbers, dtype, n, alphabet)),
        ("pattern", random(&mut numbers, dtype, m, alphabet)),
    ];
    Case::made(name, NAME, json!({ "alphabet": alphabet }), inputs)
}

/// With masks on the text, the pattern or both.
fn wild(mut case: Case, names: &[&str]) -> Case {
    let mut numbers = Numbers::of(&case.name);
    for name in names {
        let of = name.trim_end_matches("_wild");
        let len = case.inputs.get(of).map_or(0, Array::elements);
        let mask = sparse(&mut numbers, &[len.div_ceil(32)]);
        case.inputs.insert((*name).into(), mask);
    }
    case
}

fn with(mut case: Case, name: &str, value: &str) -> Case {
    case.params.insert(name.into(), Value::from(value));
    case
}

fn builtin() -> Vec<Case> {
    let (u8, u32) = (Dtype::U8, Dtype::U32);
    let both = &["text_wild", "pattern_wild"];
    let mut numbers = Numbers::of("iupac");
    let mut nucleotides = |len: usize, codes: &[u8]| {
        let code = |_| codes.get(numbers.below(codes.len())).copied();
        bytes((0..len).filter_map(code).collect())
    };
    let iupac = [
        ("text", nucleotides(900, b"ACGTacgtN")),
        ("pattern", nucleotides(40, b"ACGTURYSWKMBDHVNacgtryn-")),
    ];
    let classes = Case::made(
        "sliding_classes",
        NAME,
        json!({ "classes": "iupac" }),
        iupac,
    );
    vec![
        made("sliding", u8, [3000, 100, 4]),
        wild(made("sliding_wild", u8, [1500, 70, 4]), both),
        made("sliding_protein", u8, [2500, 33, 20]),
        made("sliding_bytes", u8, [1000, 300, 256]),
        made("sliding_words", u32, [2000, 65, 70_000]),
        wild(made("sliding_words_wild", u32, [1300, 31, 5]), both),
        wild(
            made("sliding_text_wild", u32, [700, 64, 300]),
            &["text_wild"],
        ),
        wild(
            Case {
                name: "sliding_classes_wild".into(),
                ..classes.clone()
            },
            &["text_wild"],
        ),
        classes,
        made("sliding_one_letter", u8, [400, 32, 1]),
        made("sliding_long", u8, [9000, 5000, 3]),
        made("sliding_equal_lengths", u8, [64, 64, 4]),
        made("sliding_short_text", u8, [10, 11, 4]),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let n = match class {
        Class::Cpu => 1 << 20,
        _ => 1 << 22,
    };
    let mut benches = Vec::new();
    for alphabet in [4, 20, 256] {
        for m in [64, 1024, 4096] {
            let name = format!("{NAME}/s{alphabet}_m{m}_n{n}");
            benches.push(Bench {
                name: name.clone(),
                make: Box::new(move || made(&name, Dtype::U8, [n, m, alphabet])),
            });
        }
    }
    let name = format!("{NAME}/scatter_s100000_m4096_n{n}");
    benches.push(Bench {
        name: name.clone(),
        make: Box::new(move || {
            with(
                made(&name, Dtype::U32, [n, 4096, 100_000]),
                "method",
                "scatter",
            )
        }),
    });
    benches
}
