//! Cases of search that a formula makes.

use serde_json::{Map, Value, json};

use crate::{
    case::{Array, Bench, Case, Numbers},
    gpu::Class,
    hamming::{
        bits,
        search::{Filter, OP_HISTOGRAM, OP_KNN, OP_RADIUS},
    },
};

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

pub(super) fn builtin_knn() -> Vec<Case> {
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

pub(super) fn builtin_radius() -> Vec<Case> {
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

pub(super) fn builtin_histogram() -> Vec<Case> {
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

pub(super) fn benches_knn(class: Class) -> Vec<Bench> {
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

pub(super) fn benches_radius(class: Class) -> Vec<Bench> {
    let items = if class == Class::Cpu {
        20_000
    } else {
        1_000_000
    };
    let params = json!({ "radius": 90, "capacity": 100_000 });
    vec![bench(OP_RADIUS, "r90", params, [200, items, 256])]
}

pub(super) fn benches_histogram(class: Class) -> Vec<Bench> {
    let items = if class == Class::Cpu {
        20_000
    } else {
        1_000_000
    };
    vec![bench(OP_HISTOGRAM, "all", json!({}), [100, items, 256])]
}
