//! `k_mismatch` as the program, the tests and the benches see it.

use serde_json::json;

use super::{OP as NAME, Query, accept, plan};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::{
        ABSENT,
        cpu::sliding as cpu,
        sliding::{
            Classes, Pattern,
            cases::{
                CaseText, bytes, classes, exact, mask, random, reference, sparse, symbols, text,
            },
        },
    },
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Search {
    text: CaseText,
    queries: Vec<Query>,
    classes: Option<Classes>,
    capacity: usize,
}

/// Patterns are the rows of a matrix, each of its own length; their masks are rows of words.
fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let text = text(case)?;
    let [count, longest] = case.axes("patterns", "[patterns, symbols]")?;
    let given = symbols(case.shaped("patterns", text.shape.dtype, &[count, longest])?);
    let lengths = symbols(case.shaped("lengths", Dtype::U32, &[count])?);
    let k = symbols(case.shaped("k", Dtype::U32, &[count])?);
    let words = longest.div_ceil(32);
    let wild = mask(case, "pattern_wild", &[count, words])?;
    let must = mask(case, "must_match", &[count, words])?;
    let capacity = case.needed("capacity", case.count("capacity")?)?;
    let mut queries = Vec::new();
    for (row, (len, k)) in lengths.iter().zip(&k).enumerate() {
        let len = *len as usize;
        let symbols = given.get(row * longest..row * longest + len);
        let Some(symbols) = symbols.filter(|_| len <= longest) else {
            return Err(case.wrong(format!(
                "tensor lengths must hold numbers up to {longest}, got {len}"
            )));
        };
        let row = |mask: &Option<Vec<u32>>| {
            let words = row * words..row * words + len.div_ceil(32);
            mask.as_ref()
                .and_then(|mask| mask.get(words))
                .map(<[u32]>::to_vec)
        };
        queries.push(Query {
            pattern: Pattern {
                symbols: symbols.to_vec(),
                wild: row(&wild),
            },
            k: *k,
            must_match: row(&must),
        });
    }
    let search = Search {
        text,
        queries,
        classes: classes(case)?,
        capacity,
    };
    for query in &search.queries {
        query.check(search.text.shape.dtype, search.classes.is_some())?;
    }
    Ok(Box::new(search))
}

impl Problem for Search {
    fn inputs(&self) -> Vec<&Array> {
        self.text.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let hits = ["position", "pattern", "distance"];
        let hits = hits.map(|name| exact(name, vec![self.capacity]));
        hits.into_iter().chain([exact("total", vec![1])]).collect()
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let classes = self.classes.as_ref();
        let capacity = Some(self.capacity);
        plan::search(&self.text.shape, &self.queries, classes, capacity, caps)
            .map(|plan| vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let text = cpu::Text {
            symbols: &self.text.symbols,
            wild: self.text.wild.as_deref(),
        };
        let hits = cpu::k_mismatch(&text, &self.queries, self.classes.as_ref())?;
        accept(u32::try_from(hits.len()).unwrap_or(u32::MAX), self.capacity)?;
        let total = hits.len() as u32;
        let column = |n: usize| {
            let found = hits.iter().filter_map(move |hit| hit.get(n).copied());
            let all = found.chain(std::iter::repeat(ABSENT));
            reference(all.take(self.capacity))
        };
        Ok(vec![column(0), column(1), column(2), reference([total])])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let longest = self.queries.iter().map(|query| query.pattern.symbols_len());
        vec![
            ("n", self.text.shape.len),
            ("patterns", self.queries.len()),
            ("m", longest.max().unwrap_or(0)),
        ]
    }

    fn accept(&self, outputs: &[Array]) -> Result<(), Error> {
        let total = outputs.last().map(symbols).unwrap_or_default();
        accept(total.first().copied().unwrap_or(0), self.capacity)
    }
}

/// Random symbols below `alphabet`; patterns of rising length up to `longest`, each with its own k.
fn made(
    name: &str,
    dtype: Dtype,
    [n, patterns, longest, alphabet]: [usize; 4],
    (k, capacity): (usize, usize),
) -> Case {
    let mut numbers = Numbers::of(name);
    let mut given = random(&mut numbers, dtype, patterns * longest, alphabet);
    given.shape = vec![patterns, longest];
    let lengths: Vec<u32> = (0..patterns)
        .map(|p| (longest - p % 3 * longest / 8).max(1) as u32)
        .collect();
    let most: Vec<u32> = (0..patterns).map(|p| (k + p % 2) as u32).collect();
    let inputs = [
        ("text", random(&mut numbers, dtype, n, alphabet)),
        ("patterns", given),
        ("lengths", Array::u32(&[patterns], &lengths)),
        ("k", Array::u32(&[patterns], &most)),
    ];
    Case::made(name, NAME, json!({ "capacity": capacity }), inputs)
}

/// With masks of every kind.
fn masked(mut case: Case) -> Case {
    let mut numbers = Numbers::of(&case.name);
    let axes = |name: &str| case.inputs.get(name).map(|array| array.shape.clone());
    let text = axes("text").unwrap_or_default();
    let shape: Vec<usize> = match axes("patterns").as_deref() {
        Some([count, longest]) => vec![*count, longest.div_ceil(32)],
        _ => Vec::new(),
    };
    let words: usize = text.iter().sum::<usize>().div_ceil(32);
    for (name, shape) in [
        ("text_wild", &[words][..]),
        ("pattern_wild", &shape),
        ("must_match", &shape),
    ] {
        let mask = sparse(&mut numbers, shape);
        case.inputs.insert(name.into(), mask);
    }
    case
}

fn builtin() -> Vec<Case> {
    let (u8, u32) = (Dtype::U8, Dtype::U32);
    let mut iupac = Numbers::of("iupac");
    let mut nucleotides = |len: usize, codes: &[u8]| {
        let code = |_| codes.get(iupac.below(codes.len())).copied();
        bytes((0..len).filter_map(code).collect())
    };
    let mut guides = nucleotides(60, b"ACGTACGTRYN");
    guides.shape = vec![3, 20];
    let classes = Case::made(
        "mismatch_classes",
        NAME,
        json!({ "capacity": 2000, "classes": "iupac" }),
        [
            ("text", nucleotides(2000, b"ACGTacgtN")),
            ("patterns", guides),
            ("lengths", Array::u32(&[3], &[20, 12, 17])),
            ("k", Array::u32(&[3], &[9, 4, 8])),
        ],
    );
    vec![
        made("mismatch", u8, [20_000, 9, 23, 4], (7, 1000)),
        masked(made("mismatch_masked", u8, [5000, 7, 64, 4], (36, 4000))),
        made("mismatch_words", u32, [3000, 5, 40, 50], (28, 1000)),
        masked(Case {
            name: "mismatch_classes_masked".into(),
            ..classes.clone()
        }),
        classes,
        made("mismatch_none", u8, [300, 4, 30, 4], (0, 10)),
        made("mismatch_short_text", u8, [3, 2, 8, 4], (8, 10)),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let n = match class {
        Class::Cpu => 1 << 20,
        _ => 1 << 26,
    };
    let bench = |patterns: usize| {
        let name = format!("{NAME}/p{patterns}_m23_k5_n{n}");
        Bench {
            name: name.clone(),
            make: Box::new(move || made(&name, Dtype::U8, [n, patterns, 23, 4], (5, 1 << 16))),
        }
    };
    [10, 100].map(bench).into()
}
