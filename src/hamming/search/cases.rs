//! `hamming_knn`, `hamming_radius` and `hamming_histogram` as the program, the tests and the benches see them.

use serde_json::{Map, Value, json};

use super::{
    Allowed, Filter, OP_HISTOGRAM, OP_KNN, OP_RADIUS, Order, Radius, Search, Shape, fitting, plan,
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::{
        self, ABSENT, bits,
        cases::{exact, expect, words_of},
        cpu::search as cpu,
        simd,
    },
    plan::Plan,
};

/// The k nearest neighbours.
pub(crate) const KNN: Op = Op {
    name: OP_KNN,
    bind: bind_knn,
    builtin: builtin_knn,
    benches: benches_knn,
};

/// Everything within a radius.
pub(crate) const RADIUS: Op = Op {
    name: OP_RADIUS,
    bind: bind_radius,
    builtin: builtin_radius,
    benches: benches_radius,
};

/// Histograms of distances.
pub(crate) const HISTOGRAM: Op = Op {
    name: OP_HISTOGRAM,
    bind: bind_histogram,
    builtin: builtin_histogram,
    benches: benches_histogram,
};

/// What is asked of a search.
#[derive(Clone, Copy, Debug)]
enum Task {
    Knn {
        k: usize,
    },
    Radius {
        radius: Radius,
        order: Order,
        capacity: usize,
    },
    Count {
        radius: Radius,
    },
    Histogram,
}

struct Searching {
    shape: Shape,
    parts: [usize; 1],
    allowed: Allowed,
    task: Task,
    /// Queries, filter, ranges and radii where they are, the database.
    inputs: Vec<Array>,
}

/// Sizes, options and inputs; `more` are inputs of an operator, in front of the database.
fn bind(case: &Case, task: Task, radii: bool) -> Result<Box<dyn Problem>, Failure> {
    let [queries, words] = case.axes("queries", "[queries, words]")?;
    let [items, _] = case.axes("database", "[items, words]")?;
    let bits = case.needed("bits", case.count("bits")?)?;
    let shape = Shape {
        queries,
        items,
        bits,
    };
    let filter = match case.inputs.get("filter").map(|array| array.shape.len()) {
        None => Filter::None,
        Some(1) => Filter::Global,
        Some(_) => Filter::PerQuery,
    };
    let allowed = Allowed {
        filter,
        ranges: case.inputs.contains_key("ranges"),
        exclude_self: case.flag("exclude_self", false)?,
    };
    let searching = Searching {
        shape,
        parts: [items],
        allowed,
        task,
        inputs: Vec::new(),
    };
    searching.search().check(OP_KNN)?;
    if words != bits::words(bits) {
        return Err(case.wrong(format!(
            "codes of {bits} bits have {} words, got {words}",
            bits::words(bits)
        )));
    }
    let row = shape.filter_words();
    let filter_shape = match filter {
        Filter::PerQuery => vec![queries, row],
        _ => vec![row],
    };
    let shapes = [
        Some(("queries", vec![queries, words])),
        (filter != Filter::None).then_some(("filter", filter_shape)),
        allowed.ranges.then_some(("ranges", vec![queries, 2])),
        radii.then_some(("radius", vec![queries])),
        Some(("database", vec![items, words])),
    ];
    let inputs = shapes.into_iter().flatten();
    let inputs = inputs.map(|(name, shape)| case.shaped(name, Dtype::U32, &shape).cloned());
    let inputs = inputs.collect::<Result<_, _>>()?;
    Ok(Box::new(Searching {
        inputs,
        ..searching
    }))
}

fn bind_knn(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let k = case.needed("k", case.count("k")?)?;
    bind(case, Task::Knn { k }, false)
}

fn bind_radius(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let radii = case.inputs.contains_key("radius");
    let radius = match case.count("radius")? {
        Some(_) if radii => {
            return Err(case.wrong("has a parameter and a tensor `radius`; leave one out"));
        }
        Some(r) => Radius::All(u32::try_from(r).unwrap_or(u32::MAX)),
        None if radii => Radius::PerQuery,
        None => {
            return Err(case.wrong(
                "needs a parameter `radius`, or a tensor of that name with one to a query",
            ));
        }
    };
    let order = case.choice(
        "order",
        &[("index", Order::Index), ("distance", Order::Distance)],
    )?;
    let task = match case.flag("count", false)? {
        true => Task::Count { radius },
        false => {
            let given = case.expected.get("index").map(Array::elements);
            let capacity = case.needed("capacity", case.count("capacity")?.or(given))?;
            Task::Radius {
                radius,
                order,
                capacity,
            }
        }
    };
    bind(case, task, radii)
}

fn bind_histogram(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    bind(case, Task::Histogram, false)
}

impl Searching {
    fn search(&self) -> Search<'_> {
        Search {
            shape: self.shape,
            parts: &self.parts,
            allowed: self.allowed,
        }
    }

    fn found(&self) -> Result<Vec<Vec<u32>>, Error> {
        let given = self.given();
        let inputs = given.inputs();
        let (shape, allowed) = (&self.shape, &self.allowed);
        Ok(match self.task {
            Task::Knn { k } => {
                let found = cpu::knn(shape, k, allowed, &inputs)?;
                vec![found.distance, found.index]
            }
            Task::Radius {
                radius,
                order,
                capacity,
            } => {
                let mut rows = cpu::radius(shape, radius, order, allowed, &inputs)?;
                fitting(rows.row_offsets.last().copied().unwrap_or(0), capacity)?;
                rows.distance.resize(capacity, ABSENT);
                rows.index.resize(capacity, ABSENT);
                vec![rows.row_offsets, rows.distance, rows.index]
            }
            Task::Count { radius } => {
                let rows = cpu::radius(shape, radius, Order::Index, allowed, &inputs)?;
                let ends = rows.row_offsets.iter().skip(1);
                vec![
                    ends.zip(&rows.row_offsets)
                        .map(|(end, start)| end - start)
                        .collect(),
                ]
            }
            Task::Histogram => vec![cpu::histogram(shape, allowed, &inputs)?],
        })
    }

    /// The inputs as words, by what they are.
    fn given(&self) -> Given {
        let mut arrays = self.inputs.iter();
        let mut next = |there: bool| {
            if there {
                arrays.next().map(words_of)
            } else {
                None
            }
            .unwrap_or_default()
        };
        let radii = matches!(
            self.task,
            Task::Radius {
                radius: Radius::PerQuery,
                ..
            } | Task::Count {
                radius: Radius::PerQuery
            }
        );
        Given {
            queries: next(true),
            filter: next(self.allowed.filter != Filter::None),
            ranges: next(self.allowed.ranges),
            radii: next(radii),
            database: next(true),
        }
    }

    /// The same by vector instructions.
    fn quick(&self) -> Result<Vec<Vec<u32>>, Error> {
        let given = self.given();
        let database =
            simd::Database::new(&given.database, self.shape.bits, simd::Options::default())?;
        let end = |n: u32| n.min(self.shape.items as u32);
        let ranges = given.ranges.as_chunks::<2>().0.iter();
        let ranges: Vec<[u32; 2]> = ranges.map(|[lo, hi]| [end(*lo), end(*hi)]).collect();
        let allowed = hamming::Allowed {
            filter: match self.allowed.filter {
                Filter::None => None,
                Filter::Global => Some(hamming::Filter::Shared(&given.filter)),
                Filter::PerQuery => Some(hamming::Filter::Each(&given.filter)),
            },
            ranges: self.allowed.ranges.then_some(&ranges),
            exclude_self: self.allowed.exclude_self,
        };
        let radius = |radius| match radius {
            Radius::All(r) => simd::Radius::Same(r),
            Radius::PerQuery => simd::Radius::Each(&given.radii),
        };
        Ok(match self.task {
            Task::Knn { k } => {
                let found = database.knn(&given.queries, k, &allowed)?;
                vec![found.distance, found.index]
            }
            Task::Radius {
                radius: r,
                order,
                capacity,
            } => {
                let order = match order {
                    Order::Index => simd::Order::Index,
                    Order::Distance => simd::Order::Distance,
                };
                let mut rows = database.radius(&given.queries, radius(r), order, &allowed)?;
                fitting(rows.row_offsets.last().copied().unwrap_or(0), capacity)?;
                rows.distance.resize(capacity, ABSENT);
                rows.index.resize(capacity, ABSENT);
                vec![rows.row_offsets, rows.distance, rows.index]
            }
            Task::Count { radius: r } => {
                vec![database.radius_count(&given.queries, radius(r), &allowed)?]
            }
            Task::Histogram => vec![database.histogram(&given.queries, &allowed)?],
        })
    }
}

/// Inputs as words, empty where there are none.
struct Given {
    queries: Vec<u32>,
    filter: Vec<u32>,
    ranges: Vec<u32>,
    radii: Vec<u32>,
    database: Vec<u32>,
}

impl Given {
    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            queries: &self.queries,
            database: &self.database,
            filter: &self.filter,
            ranges: &self.ranges,
            radii: &self.radii,
        }
    }
}

impl Problem for Searching {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let queries = self.shape.queries;
        match self.task {
            Task::Knn { k } => ["distance", "index"]
                .map(|name| exact(name, &[queries, k]))
                .into(),
            Task::Radius { capacity, .. } => vec![
                exact("row_offsets", &[queries + 1]),
                exact("distance", &[capacity]),
                exact("index", &[capacity]),
            ],
            Task::Count { .. } => vec![exact("count", &[queries])],
            Task::Histogram => vec![exact("count", &[queries, self.shape.bits + 1])],
        }
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let search = &self.search();
        match (self.task, all) {
            (Task::Knn { k }, true) => plan::knn_variants(search, k, caps),
            (Task::Knn { k }, false) => Ok(vec![plan::knn(search, k, caps)?]),
            (
                Task::Radius {
                    radius,
                    order,
                    capacity,
                },
                true,
            ) => plan::radius_variants(search, radius, order, capacity, caps),
            (
                Task::Radius {
                    radius,
                    order,
                    capacity,
                },
                false,
            ) => Ok(vec![plan::radius(search, radius, order, capacity, caps)?]),
            (Task::Count { radius }, _) => Ok(vec![plan::count(search, radius, caps)?]),
            (Task::Histogram, true) => plan::histogram_variants(search, caps),
            (Task::Histogram, false) => Ok(vec![plan::histogram(search, caps)?]),
        }
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        Ok(self.found()?.into_iter().map(expect).collect())
    }

    fn native(&self) -> Result<Vec<Array>, Error> {
        let found = self.quick()?.into_iter();
        let arrays = self.outputs().into_iter().zip(found);
        Ok(arrays
            .map(|(output, words)| Array::u32(&output.shape, &words))
            .collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let mut sizes = vec![
            ("n", self.shape.queries),
            ("m", self.shape.items),
            ("bits", self.shape.bits),
        ];
        match self.task {
            Task::Knn { k } => sizes.push(("k", k)),
            Task::Radius {
                radius: Radius::All(r),
                ..
            } => sizes.push(("r", r as usize)),
            _ => {}
        }
        sizes
    }

    /// Rows that exceed the capacity were not written.
    fn accept(&self, outputs: &[Array]) -> Result<(), Error> {
        if let (Task::Radius { capacity, .. }, Some(row_offsets)) = (self.task, outputs.first()) {
            let total = row_offsets.values().last().copied().unwrap_or(0.0);
            fitting(total as u32, capacity)?;
        }
        Ok(())
    }
}

/// What of a made case is not usual.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    filter: Filter,
    ranges: bool,
    exclude_self: bool,
    radii: bool,
    /// Codes of the database that are different; the rest repeats them. 0: all are.
    different: usize,
}

/// A case of random codes, pads included; the first query is the first item, so that something is at distance 0.
fn made(
    name: &str,
    op: &str,
    params: Value,
    [queries, items, bits]: [usize; 3],
    usual: &Made,
) -> Case {
    let mut numbers = Numbers::of(name);
    let words = bits::words(bits);
    let mut database: Vec<u32> = (0..items * words).map(|_| numbers.word()).collect();
    if usual.different > 0 {
        let again: Vec<u32> = database
            .iter()
            .copied()
            .take(usual.different * words)
            .collect();
        database = again.iter().copied().cycle().take(items * words).collect();
    }
    let mut codes: Vec<u32> = (0..queries * words).map(|_| numbers.word()).collect();
    for (code, item) in codes.iter_mut().zip(database.iter().take(words)) {
        *code = *item;
    }
    let mut inputs = vec![
        ("queries", Array::u32(&[queries, words], &codes)),
        ("database", Array::u32(&[items, words], &database)),
    ];
    let row = items.div_ceil(32);
    match usual.filter {
        Filter::None => {}
        Filter::Global => inputs.push(("filter", numbers.words(&[row]))),
        Filter::PerQuery => inputs.push(("filter", numbers.words(&[queries, row]))),
    }
    if usual.ranges {
        let ends = |_| {
            let (a, b) = (
                numbers.below(items + 2) as u32,
                numbers.below(items + 2) as u32,
            );
            [a.min(b), a.max(b)]
        };
        let ranges: Vec<u32> = (0..queries).flat_map(ends).collect();
        inputs.push(("ranges", Array::u32(&[queries, 2], &ranges)));
    }
    if usual.radii {
        let radii: Vec<u32> = (0..queries)
            .map(|_| numbers.below(bits / 2 + 1) as u32)
            .collect();
        inputs.push(("radius", Array::u32(&[queries], &radii)));
    }
    let mut all = Map::from_iter([("bits".to_owned(), json!(bits))]);
    if let Value::Object(params) = params {
        all.extend(params);
    }
    if usual.exclude_self {
        all.insert("exclude_self".into(), json!(true));
    }
    Case::made(name, op, Value::Object(all), inputs)
}

const GLOBAL: Made = Made {
    filter: Filter::Global,
    ranges: false,
    exclude_self: false,
    radii: false,
    different: 0,
};

const PER_QUERY: Made = Made {
    filter: Filter::PerQuery,
    ranges: true,
    exclude_self: true,
    ..GLOBAL
};

const ALL: Made = Made {
    filter: Filter::None,
    ..GLOBAL
};

fn builtin_knn() -> Vec<Case> {
    let case = |name, k: usize, sizes, usual| made(name, OP_KNN, json!({ "k": k }), sizes, &usual);
    vec![
        case("knn", 10, [70, 3000, 128], ALL),
        case("knn_odd", 7, [9, 1500, 100], ALL),
        case("knn_filter", 5, [33, 700, 64], GLOBAL),
        case("knn_filter_ranges_self", 4, [40, 500, 128], PER_QUERY),
        case(
            "knn_ranges",
            4,
            [5, 300, 33],
            Made {
                ranges: true,
                ..ALL
            },
        ),
        case(
            "knn_self",
            3,
            [64, 64, 256],
            Made {
                exclude_self: true,
                ..ALL
            },
        ),
        case(
            "knn_duplicates",
            30,
            [10, 2500, 64],
            Made {
                different: 3,
                ..ALL
            },
        ),
        case("knn_few_bits", 40, [12, 900, 8], ALL),
        case("knn_one_query", 10, [1, 9000, 256], ALL),
        case("knn_more_than_there_is", 20, [3, 12, 40], ALL),
        case("knn_none", 0, [3, 12, 40], ALL),
        case("knn_no_queries", 2, [0, 12, 40], ALL),
        case("knn_no_items", 2, [3, 0, 40], ALL),
    ]
}

fn builtin_radius() -> Vec<Case> {
    let case = |name, params, sizes, usual| made(name, OP_RADIUS, params, sizes, &usual);
    vec![
        case(
            "radius",
            json!({ "radius": 50, "capacity": 3000 }),
            [40, 900, 128],
            ALL,
        ),
        case(
            "radius_equal",
            json!({ "radius": 0, "capacity": 1000 }),
            [9, 900, 64],
            Made {
                different: 5,
                ..ALL
            },
        ),
        case(
            "radius_by_distance",
            json!({ "radius": 14, "capacity": 900, "order": "distance" }),
            [30, 500, 40],
            GLOBAL,
        ),
        case(
            "radius_per_query",
            json!({ "capacity": 3000, "order": "distance" }),
            [12, 600, 33],
            Made { radii: true, ..ALL },
        ),
        case(
            "radius_filter_ranges_self",
            json!({ "radius": 60, "capacity": 3000 }),
            [35, 400, 128],
            PER_QUERY,
        ),
        case(
            "radius_count",
            json!({ "radius": 40, "count": true }),
            [20, 500, 96],
            ALL,
        ),
        case(
            "radius_no_items",
            json!({ "radius": 40, "capacity": 5 }),
            [4, 0, 96],
            ALL,
        ),
    ]
}

fn builtin_histogram() -> Vec<Case> {
    let case = |name, sizes, usual| made(name, OP_HISTOGRAM, json!({}), sizes, &usual);
    vec![
        case("histogram", [40, 700, 96], ALL),
        case("histogram_filter_ranges_self", [5, 700, 128], PER_QUERY),
        case("histogram_filter", [9, 700, 65], GLOBAL),
        case("histogram_no_items", [3, 0, 31], ALL),
    ]
}

fn bench(op: &'static str, what: &str, params: Value, sizes: [usize; 3]) -> Bench {
    let [queries, items, bits] = sizes;
    let name = format!("{op}/{what}_n{queries}_m{items}_b{bits}");
    Bench {
        name: name.clone(),
        make: Box::new(move || made(&name, op, params.clone(), sizes, &ALL)),
    }
}

fn benches_knn(class: Class) -> Vec<Bench> {
    let knn = |sizes| bench(OP_KNN, "k10", json!({ "k": 10 }), sizes);
    let mut all = vec![knn([500, 20_000, 384]), knn([1, 1_000_000, 256])];
    if class != Class::Cpu {
        all.extend([64, 128, 256, 512, 1024].map(|bits| knn([1000, 100_000, bits])));
        all.push(bench(
            OP_KNN,
            "k10000",
            json!({ "k": 10_000 }),
            [100, 100_000, 256],
        ));
    }
    all
}

fn benches_radius(class: Class) -> Vec<Bench> {
    let items = if class == Class::Cpu {
        20_000
    } else {
        1_000_000
    };
    let params = json!({ "radius": 90, "capacity": 100_000 });
    vec![bench(OP_RADIUS, "r90", params, [200, items, 256])]
}

fn benches_histogram(class: Class) -> Vec<Bench> {
    let items = if class == Class::Cpu {
        20_000
    } else {
        1_000_000
    };
    vec![bench(OP_HISTOGRAM, "all", json!({}), [100, items, 256])]
}
