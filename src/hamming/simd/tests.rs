//! Every level against brute force, bit for bit.

mod brute;
mod pack;

use super::{
    Database, Level, Options, Order, Radius, Threshold, distances, distances_u16, knn, pack_bits,
    radius,
    sweep::{Split, Sweep},
};
use crate::hamming::{Allowed, Compare, Filter, bits::words};
use brute::{all, distance, histogram, inside, nearest};

/// Random words.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as u32
    }

    fn words(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.next()).collect()
    }

    /// Codes with garbage in their pads.
    fn codes(&mut self, count: usize, bits: usize) -> Vec<u32> {
        self.words(count * words(bits))
    }
}

/// Every level of this machine, on one thread and on several.
fn options() -> Vec<Options> {
    let levels = Level::ALL.into_iter().filter(|level| level.available());
    levels
        .flat_map(|level| [1, 3].map(|threads| Options { level, threads }))
        .collect()
}

/// Everything that a database offers, against brute force.
fn check(queries: &[u32], codes: &[u32], bits: usize, ks: &[usize], allowed: &Allowed<'_>) {
    let rows = all(queries, codes, bits, allowed);
    let radii: Vec<u32> = (0..rows.len()).map(|at| (at * bits / 7) as u32).collect();
    for options in options() {
        let database = Database::new(codes, bits, options).unwrap();
        for k in ks {
            let found = database.knn(queries, *k, allowed).unwrap();
            assert_eq!(found, nearest(&rows, *k), "bits {bits}, k {k}, {options:?}");
        }
        for order in [Order::Index, Order::Distance] {
            let found = database
                .radius(queries, Radius::Each(&radii), order, allowed)
                .unwrap();
            assert_eq!(
                found,
                inside(&rows, &radii, order),
                "bits {bits}, {options:?}"
            );
        }
        let count = database
            .radius_count(queries, Radius::Each(&radii), allowed)
            .unwrap();
        let offsets = inside(&rows, &radii, Order::Index).row_offsets;
        let expected: Vec<u32> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(count, expected, "bits {bits}, {options:?}");
        let counts = database.histogram(queries, allowed).unwrap();
        assert_eq!(counts, histogram(&rows, bits), "bits {bits}, {options:?}");
    }
}

#[test]
fn every_width_number_of_queries_and_number_of_codes() {
    let mut random = Random(1);
    for bits in [
        1, 2, 31, 32, 33, 63, 64, 65, 96, 100, 127, 128, 255, 256, 257, 500, 512, 1000, 1024, 2050,
    ] {
        for (queries, items) in [
            (0, 70),
            (1, 200),
            (2, 65),
            (3, 64),
            (4, 63),
            (5, 1),
            (9, 0),
            (7, 130),
        ] {
            let (a, b) = (random.codes(queries, bits), random.codes(items, bits));
            let expected: Vec<u32> = all(&a, &b, bits, &Allowed::default())
                .concat()
                .iter()
                .map(|item| item.0)
                .collect();
            for options in options() {
                assert_eq!(
                    distances(&a, &b, bits, options).unwrap(),
                    expected,
                    "{options:?}"
                );
                let short: Vec<u16> = expected.iter().map(|d| *d as u16).collect();
                assert_eq!(
                    distances_u16(&a, &b, bits, options).unwrap(),
                    short,
                    "{options:?}"
                );
            }
            check(
                &a,
                &b,
                bits,
                &[0, 1, 10, items, items + 3],
                &Allowed::default(),
            );
        }
    }
}

#[test]
fn the_widest_codes() {
    let mut random = Random(2);
    let (a, b) = (random.codes(3, 65_536), random.codes(70, 65_536));
    check(&a, &b, 65_536, &[1, 5, 71], &Allowed::default());
    let complement: Vec<u32> = a.iter().map(|word| !word).collect();
    for options in options() {
        let found = distances(&a, &complement, 65_536, options).unwrap();
        assert_eq!([found[0], found[4], found[8]], [65_536; 3], "{options:?}");
    }
    assert!(distances_u16(&a, &b, 65_536, Options::default()).is_err());
}

#[test]
fn every_k() {
    let mut random = Random(3);
    let items = 2500;
    for bits in [8, 50, 64] {
        let (a, b) = (random.codes(5, bits), random.codes(items, bits));
        let ks = [0, 1, 7, 32, 2047, 2048, 2049, items, items + 3];
        check(&a, &b, bits, &ks, &Allowed::default());
    }
}

#[test]
fn duplicates_tie_to_the_lower_index() {
    let mut random = Random(4);
    let code = random.codes(1, 70);
    let codes = code.repeat(40_000);
    check(
        &random.codes(2, 70),
        &codes,
        70,
        &[1, 10, 100, 40_000],
        &Allowed::default(),
    );
    check(&code, &codes, 70, &[1, 10, 100], &Allowed::default());
}

#[test]
fn allowed_items() {
    let mut random = Random(5);
    let (queries, items, bits) = (6, 700, 40);
    let (a, b) = (random.codes(queries, bits), random.codes(items, bits));
    let row = items.div_ceil(32);
    let mut one = vec![0; row];
    one[9] = 1 << 17;
    let shared = [vec![0; row], vec![u32::MAX; row], one, random.words(row)];
    let each = random.words(row * queries);
    let mut filters = vec![None, Some(Filter::Each(&each))];
    filters.extend(shared.iter().map(|words| Some(Filter::Shared(words))));
    let ranges = [
        [0, 700],
        [0, 0],
        [64, 128],
        [63, 65],
        [500, 501],
        [130, 699],
    ];
    for filter in filters {
        for ranges in [None, Some(ranges.as_slice())] {
            for exclude_self in [false, true] {
                let allowed = Allowed {
                    filter,
                    ranges,
                    exclude_self,
                };
                check(&a, &b, bits, &[1, 9, 400, 701], &allowed);
            }
        }
    }
    let window: Vec<[u32; 2]> = (0..items as u32)
        .map(|i| [i.saturating_sub(100), i + 1])
        .collect();
    let allowed = Allowed {
        ranges: Some(&window),
        exclude_self: true,
        ..Allowed::default()
    };
    check(&b, &b, bits, &[3], &allowed);
}

#[test]
fn a_radius_includes_its_own_distance() {
    let mut random = Random(6);
    for bits in [5, 64, 75] {
        let mut codes = random.codes(300, bits);
        let queries = codes[..words(bits) * 4].to_vec();
        codes.extend(&queries);
        let rows = all(&queries, &codes, bits, &Allowed::default());
        for options in options() {
            let database = Database::new(&codes, bits, options).unwrap();
            for radius in [
                0,
                1,
                bits as u32 / 2,
                bits as u32 - 1,
                bits as u32,
                bits as u32 + 1,
                u32::MAX,
            ] {
                for order in [Order::Index, Order::Distance] {
                    let same = Radius::Same(radius);
                    let found = database
                        .radius(&queries, same, order, &Allowed::default())
                        .unwrap();
                    assert_eq!(
                        found,
                        inside(&rows, &[radius; 4], order),
                        "radius {radius}, {options:?}"
                    );
                }
            }
        }
    }
}

/// Codes sorted by their distance to a query, far first and near first, with the sample bound and without.
#[test]
fn adversarial_orders() {
    let mut random = Random(7);
    for bits in [16, 64] {
        let query = random.codes(1, bits);
        let codes = random.codes(40_000, bits);
        let mut sorted: Vec<&[u32]> = codes.chunks(words(bits)).collect();
        sorted.sort_by_key(|code| distance(code, &query, bits));
        let near = sorted.concat();
        sorted.reverse();
        let far = sorted.concat();
        let queries = [query, random.codes(1, bits)].concat();
        for codes in [near, far] {
            let rows = all(&queries, &codes, bits, &Allowed::default());
            for options in options() {
                let database = Database::new(&codes, bits, options).unwrap();
                for k in [1, 10, 300, 3000] {
                    let found = database.knn(&queries, k, &Allowed::default()).unwrap();
                    assert_eq!(found, nearest(&rows, k), "bits {bits}, k {k}, {options:?}");
                }
            }
        }
    }
}

#[test]
fn tasks_do_not_show() {
    let mut random = Random(8);
    let (bits, items, k) = (30, 9000, 40);
    let (queries, codes) = (random.codes(11, bits), random.codes(items, bits));
    let filter = random.words(items.div_ceil(32));
    let allowed = Allowed {
        filter: Some(Filter::Shared(&filter)),
        exclude_self: true,
        ..Allowed::default()
    };
    let rows = all(&queries, &codes, bits, &allowed);
    for options in options() {
        let database = Database::new(&codes, bits, options).unwrap();
        let sweep = Sweep::new("test", &database, &queries, &allowed).unwrap();
        for (queries, segments, batch) in [
            (4, 1, 4),
            (4, 5, 8),
            (8, 141, 8),
            (12, 200, 12),
            (1, 3, 2),
            (3, 2, 6),
            (256, 1, 256),
        ] {
            let split = Split {
                queries,
                segments,
                batch,
            };
            assert_eq!(
                knn::search(&sweep, k, split).unwrap(),
                nearest(&rows, k),
                "{split:?}"
            );
            let radii = [6; 11];
            let limits = radius::limits(&sweep, Radius::Each(&radii)).unwrap();
            for order in [Order::Index, Order::Distance] {
                let found = radius::within(&sweep, &limits, order, split).unwrap();
                assert_eq!(found, inside(&rows, &radii, order), "{split:?}");
            }
            assert_eq!(
                radius::histogram(&sweep, split).unwrap(),
                histogram(&rows, bits),
                "{split:?}"
            );
        }
    }
}

#[test]
fn a_common_mask_changes_nothing() {
    let mut random = Random(9);
    let (a, b, mask) = (
        random.codes(6, 90),
        random.codes(500, 90),
        random.codes(1, 90),
    );
    let masked = |codes: &[u32]| -> Vec<u32> {
        codes
            .iter()
            .zip(mask.iter().cycle())
            .map(|(word, mask)| word ^ mask)
            .collect()
    };
    let search = |a: &[u32], b: &[u32]| {
        let database = Database::new(b, 90, Options::default()).unwrap();
        database.knn(a, 20, &Allowed::default()).unwrap()
    };
    assert_eq!(search(&a, &b), search(&masked(&a), &masked(&b)));
}

#[test]
fn wrong_arguments_are_named() {
    let options = Options::default();
    let fails =
        |error: crate::Error, word: &str| assert!(error.to_string().contains(word), "{error}");
    fails(
        Database::new(&[0; 3], 0, options).unwrap_err(),
        "relayout: bits",
    );
    fails(
        Database::new(&[0; 3], 33, options).unwrap_err(),
        "relayout: codes",
    );
    let database = Database::new(&[0; 6], 33, options).unwrap();
    assert_eq!(
        (database.len(), database.bits(), database.is_empty()),
        (3, 33, false)
    );
    let all = Allowed::default();
    fails(
        database.knn(&[0; 3], 1, &all).unwrap_err(),
        "hamming_knn: queries",
    );
    fails(
        database.knn(&[0; 4], usize::MAX, &all).unwrap_err(),
        "lower k",
    );
    fails(
        database.distances(&[0; 3]).unwrap_err(),
        "hamming_distance: queries",
    );
    fails(
        database.histogram(&[0; 3], &all).unwrap_err(),
        "hamming_histogram: queries",
    );
    let radius = |radius| database.radius(&[0; 4], radius, Order::Index, &all);
    fails(
        radius(Radius::Each(&[1])).unwrap_err(),
        "hamming_radius: radius",
    );
    let filtered = Allowed {
        filter: Some(Filter::Shared(&[0; 2])),
        ..all
    };
    fails(
        database.knn(&[0; 4], 1, &filtered).unwrap_err(),
        "allowed.filter",
    );
    let pack = |x: &[f32], dims, t| pack_bits(x, dims, t, Compare::Greater, &options);
    fails(
        pack(&[0.0; 3], 2, Threshold::Same(0.0)).unwrap_err(),
        "pack_bits: x",
    );
    fails(
        pack(&[0.0; 4], 2, Threshold::Each(&[0.0])).unwrap_err(),
        "pack_bits: threshold",
    );
    fails(
        pack(&[], 0, Threshold::Same(0.0)).unwrap_err(),
        "pack_bits: bits",
    );
}

#[test]
fn a_level_that_is_not_there_is_refused() {
    assert!(Level::detect().available() && Level::Scalar.available());
    let missing: Vec<Level> = Level::ALL
        .into_iter()
        .filter(|level| !level.available())
        .collect();
    assert!(!missing.is_empty(), "no machine has all levels");
    for level in missing {
        let options = Options { level, threads: 1 };
        assert!(Database::new(&[0], 32, options).is_err());
        assert!(pack_bits(&[0.0], 1, Threshold::Same(0.0), Compare::Greater, &options).is_err());
        let mut database = Database::new(&[0], 32, Options::default()).unwrap();
        database.options = options;
        assert!(database.knn(&[0], 1, &Allowed::default()).is_err());
        assert!(database.distances(&[0]).is_err());
    }
}
