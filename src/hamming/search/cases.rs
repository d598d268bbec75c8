//! `hamming_knn`, `hamming_radius` and `hamming_histogram` as the program, the tests and the benches see them.

mod made;

use super::{
    Allowed, Filter, OP_HISTOGRAM, OP_KNN, OP_RADIUS, Order, Radius, Search, Shape, call::fitting,
    plan,
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
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
    builtin: made::builtin_knn,
    benches: made::benches_knn,
};

/// Everything within a radius.
pub(crate) const RADIUS: Op = Op {
    name: OP_RADIUS,
    bind: bind_radius,
    builtin: made::builtin_radius,
    benches: made::benches_radius,
};

/// Histograms of distances.
pub(crate) const HISTOGRAM: Op = Op {
    name: OP_HISTOGRAM,
    bind: bind_histogram,
    builtin: made::builtin_histogram,
    benches: made::benches_histogram,
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
