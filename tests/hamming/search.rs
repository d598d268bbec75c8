//! Nearest neighbours, rows within a radius and histograms: every plan, cut in every way, against sorting.

use crate::{device::gpu, effort::by_turns};
use subquad::{
    Error, Tensor,
    gpu::{Caps, Class, View},
    hamming::{
        self, ABSENT,
        bits::words,
        cpu::search as cpu,
        search::{
            Allowed, Filter, Inputs, Neighbours, Order, Radius, Rows, Search, Shape, plan, upload,
        },
    },
    plan::Plan,
};

struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }

    fn words(&mut self, len: usize) -> Vec<u32> {
        (0..len).map(|_| self.word()).collect()
    }
}

/// Codes and everything a search may read of them; pads are random.
#[derive(Clone)]
struct Data {
    shape: Shape,
    allowed: Allowed,
    queries: Vec<u32>,
    database: Vec<u32>,
    filter: Vec<u32>,
    ranges: Vec<u32>,
    radii: Vec<u32>,
}

impl Data {
    fn new(seed: u64, [queries, items, bits]: [usize; 3], allowed: Allowed) -> Data {
        let mut random = Random(seed);
        let shape = Shape {
            queries,
            items,
            bits,
        };
        let filter = match allowed.filter {
            Filter::None => 0,
            Filter::Global => shape.filter_words(),
            Filter::PerQuery => queries * shape.filter_words(),
        };
        let mut range = || {
            let (a, b) = (
                random.below(items + 2) as u32,
                random.below(items + 2) as u32,
            );
            [a.min(b), a.max(b)]
        };
        let ranges = (0..queries).flat_map(|_| range()).collect();
        Data {
            shape,
            allowed,
            queries: random.words(queries * words(bits)),
            database: random.words(items * words(bits)),
            filter: random.words(filter),
            ranges: if allowed.ranges { ranges } else { Vec::new() },
            radii: (0..queries)
                .map(|_| random.below(bits + 2) as u32)
                .collect(),
        }
    }

    fn inputs(&self, radius: Option<Radius>) -> cpu::Inputs<'_> {
        cpu::Inputs {
            queries: &self.queries,
            database: &self.database,
            filter: &self.filter,
            ranges: &self.ranges,
            radii: if radius == Some(Radius::PerQuery) {
                &self.radii
            } else {
                &[]
            },
        }
    }

    fn knn(&self, k: usize) -> Vec<Vec<u32>> {
        let found = cpu::knn(&self.shape, k, &self.allowed, &self.inputs(None)).unwrap();
        vec![found.distance, found.index]
    }

    fn search<'a>(&self, parts: &'a [usize]) -> Search<'a> {
        Search {
            shape: self.shape,
            parts,
            allowed: self.allowed,
        }
    }

    /// Runs a plan into prefilled outputs between guard bands, with the run-time checks of kernels on or off.
    fn run(
        &self,
        plan: &Plan,
        parts: &[usize],
        radius: Option<Radius>,
        outputs: &[usize],
        checked: bool,
    ) -> Vec<Vec<u32>> {
        const BAND: usize = 64;
        let gpu = gpu();
        let upload = |values: &[u32]| gpu.upload(values).unwrap();
        let mut inputs = vec![upload(&self.queries)];
        for given in [&self.filter[..], &self.ranges, self.inputs(radius).radii] {
            if !given.is_empty() {
                inputs.push(upload(given));
            }
        }
        let mut rest = &self.database[..];
        for rows in parts {
            let (part, after) = rest.split_at(rows * self.shape.words());
            inputs.push(upload(part));
            rest = after;
        }
        let guarded = |len: &usize| upload(&vec![0x5a5a_5a5a; len + 2 * BAND]).into_buffer();
        let buffers: Vec<_> = outputs.iter().map(guarded).collect();
        let wrap =
            |n: usize, offset, len| gpu.wrap::<u32>(buffers[n].clone(), offset, len).unwrap();
        let mut tensors: Vec<_> = outputs
            .iter()
            .enumerate()
            .map(|(n, len)| wrap(n, 4 * BAND as u64, *len))
            .collect();
        let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
        let mut pass = gpu.pass("search");
        pass.run_checked(
            plan,
            &views,
            &mut tensors.iter_mut().map(Tensor::view_mut).collect::<Vec<_>>(),
            checked,
        )
        .unwrap();
        pass.submit().unwrap();
        let whole = |(n, len): (usize, &usize)| {
            let words = wrap(n, 0, len + 2 * BAND).download().unwrap();
            let (before, after) = (&words[..BAND], &words[BAND + len..]);
            assert!(
                before.iter().chain(after).all(|word| *word == 0x5a5a_5a5a),
                "{}: guard band",
                plan.label
            );
            words[BAND..BAND + len].to_vec()
        };
        outputs.iter().enumerate().map(whole).collect()
    }

    /// Every plan of a k-nearest-neighbour search on a device against sorting.
    fn holds(&self, k: usize, parts: &[usize], caps: &Caps) {
        let expected = self.knn(k);
        let len = self.shape.queries * k;
        for plan in plan::knn_variants(&self.search(parts), k, caps).unwrap() {
            assert!(
                self.run(&plan, parts, None, &[len; 2], false) == expected,
                "{} of {:?}, k {k}",
                plan.label,
                self.shape
            );
        }
    }
}

fn caps() -> Caps {
    gpu().caps().clone()
}

const ALL: Allowed = Allowed {
    filter: Filter::None,
    ranges: false,
    exclude_self: false,
};

/// The device as others would be: with small bindings, with more or fewer groups, with short loops.
fn devices() -> Vec<Caps> {
    let caps = caps();
    vec![
        Caps {
            binding_bytes: 4096,
            ..caps.clone()
        },
        Caps {
            class: Class::Other,
            fill: 1,
            ..caps.clone()
        },
        Caps {
            class: Class::Other,
            fill: 999,
            ..caps.clone()
        },
        Caps {
            loop_iterations: 700,
            ..caps.clone()
        },
        Caps {
            scratch_bytes: 60_000,
            ..caps
        },
    ]
}

#[test]
fn neighbours_are_those_of_sorting_for_any_k() {
    let items = 2100;
    let data = Data::new(1, [3, items, 64], ALL);
    for k in [0, 1, 7, 32, 255, 257, 2047, 2048, 2049, items, items + 3] {
        data.holds(k, &[items], &caps());
    }
}

#[test]
fn neighbours_are_those_of_sorting_for_any_width() {
    for bits in [
        1, 8, 31, 32, 33, 64, 65, 100, 127, 128, 129, 255, 256, 384, 1000, 1024,
    ] {
        Data::new(bits as u64, [9, 300, bits], ALL).holds(5, &[300], &caps());
    }
    for bits in [10_000, 65_505, 65_536] {
        Data::new(bits as u64, [2, 70, bits], ALL).holds(4, &[70], &caps());
    }
}

#[test]
fn neighbours_do_not_depend_on_how_the_work_is_cut() {
    let data = Data::new(3, [40, 2500, 100], ALL);
    let all = Allowed {
        filter: Filter::PerQuery,
        ranges: true,
        exclude_self: true,
    };
    let strict = Data::new(4, [33, 900, 128], all);
    for caps in devices() {
        data.holds(7, &[2500], &caps);
        strict.holds(5, &[900], &caps);
    }
}

#[test]
fn a_database_of_several_tensors_is_one_database() {
    for filter in by_turns([Filter::None, Filter::Global, Filter::PerQuery], 1) {
        let data = Data::new(
            5,
            [10, 1000, 96],
            Allowed {
                filter,
                ranges: true,
                exclude_self: false,
            },
        );
        for parts in [&[300, 0, 1, 699][..], &[64; 16][..15], &[1000]] {
            let mut parts = parts.to_vec();
            parts.push(1000 - parts.iter().sum::<usize>());
            data.holds(6, &parts, &caps());
            let r = Radius::All(40);
            check_radius(&data, r, Order::Index, &parts, &caps());
            check_radius(&data, r, Order::Distance, &parts, &caps());
        }
    }
}

#[test]
fn only_what_is_allowed_is_found() {
    let filters = [Filter::None, Filter::Global, Filter::PerQuery];
    for (n, filter) in by_turns(filters.into_iter().enumerate(), 2) {
        let others = [(false, false), (true, false), (false, true), (true, true)];
        for (ranges, exclude_self) in by_turns(others, n + 1) {
            let data = Data::new(
                6,
                [37, 500, 64],
                Allowed {
                    filter,
                    ranges,
                    exclude_self,
                },
            );
            data.holds(9, &[500], &caps());
            let row = data.filter.len();
            // All, none, and one.
            for (word, one) in [(u32::MAX, None), (0, None), (0, Some(row / 2))] {
                let mut data = data.clone();
                data.filter.fill(word);
                if let Some(bit) = one.and_then(|n| data.filter.get_mut(n)) {
                    *bit = 1 << 17;
                }
                data.holds(9, &[500], &caps());
            }
        }
    }
}

#[test]
fn equal_distances_go_by_index() {
    // Every distance is one of two, and every code one of three.
    let mut data = Data::new(7, [12, 3000, 64], ALL);
    let three = data.database[..6].to_vec();
    data.database = three.iter().copied().cycle().take(6000).collect();
    for k in [1, 32, 1500] {
        data.holds(k, &[3000], &caps());
    }
    Data::new(8, [12, 3000, 8], ALL).holds(300, &[3000], &caps());
}

#[test]
fn lists_that_overflow_are_found_again() {
    // All that is near lies in tiles that no sample takes, more of it than a list holds.
    let (items, bits) = (8192, 128);
    let mut data = Data::new(9, [20, items, bits], ALL);
    for q in (0..20).step_by(3) {
        let near = data.queries[4 * q..4 * q + 4].to_vec();
        for j in (0..items).filter(|j| j / 64 % 2 == 1 && j % 4 == q % 4) {
            data.database[4 * j..4 * j + 4].copy_from_slice(&near);
            data.database[4 * j] ^= (j as u32 * 7919) & 3;
        }
    }
    data.holds(10, &[items], &caps());
    data.holds(
        10,
        &[items],
        &Caps {
            binding_bytes: 4096 * 4,
            ..caps()
        },
    );
}

#[test]
fn samples_of_samples_bound_what_is_searched() {
    let items = 40_000;
    Data::new(18, [9, items, 128], ALL).holds(200, &[items], &caps());
}

#[test]
fn masks_common_to_all_codes_change_nothing() {
    let data = Data::new(10, [9, 700, 100], ALL);
    let mut masked = data.clone();
    let mask = Random(11).words(4);
    for codes in [&mut masked.queries, &mut masked.database] {
        codes
            .iter_mut()
            .zip(mask.iter().cycle())
            .for_each(|(word, mask)| *word ^= mask);
    }
    assert_eq!(data.knn(8), masked.knn(8));
    masked.holds(8, &[700], &caps());
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    for sizes in [[0, 5, 40], [3, 0, 40], [0, 0, 40]] {
        let data = Data::new(12, sizes, ALL);
        data.holds(2, &[sizes[1]], &caps());
        check_radius(&data, Radius::All(40), Order::Index, &[sizes[1]], &caps());
        check_histogram(&data, &[sizes[1]], &caps());
    }
}

#[test]
fn long_walks_are_cut_before_loops_end() {
    // 75,000 turns of eight items, more than llvmpipe makes.
    let data = Data::new(13, [1, 600_000, 32], ALL);
    data.holds(3, &[600_000], &caps());
}

#[test]
fn plans_repeat_bit_for_bit_with_and_without_checks() {
    let all = Allowed {
        filter: Filter::Global,
        ranges: true,
        exclude_self: true,
    };
    let data = Data::new(14, [40, 2000, 130], all);
    let expected = data.knn(12);
    for plan in plan::knn_variants(&data.search(&[2000]), 12, &caps()).unwrap() {
        for repeat in 0..10 {
            let got = data.run(&plan, &[2000], None, &[480; 2], repeat == 0);
            assert!(got == expected, "{}, repeat {repeat}", plan.label);
        }
    }
}

fn check_radius(data: &Data, radius: Radius, order: Order, parts: &[usize], caps: &Caps) {
    let rows = cpu::radius(
        &data.shape,
        radius,
        order,
        &data.allowed,
        &data.inputs(Some(radius)),
    )
    .unwrap();
    let (queries, total) = (data.shape.queries, rows.index.len());
    let search = data.search(parts);
    let given = Some(radius);
    let expected = |capacity: usize, there: bool| {
        let list = |values: &Vec<u32>| {
            let mut values = if there { values.clone() } else { Vec::new() };
            values.resize(capacity, ABSENT);
            values
        };
        vec![
            rows.row_offsets.clone(),
            list(&rows.distance),
            list(&rows.index),
        ]
    };
    for (capacity, there) in [
        (total + 5, true),
        (total, true),
        (total.saturating_sub(1), total == 0),
    ] {
        for plan in plan::radius_variants(&search, radius, order, capacity, caps).unwrap() {
            let got = data.run(
                &plan,
                parts,
                given,
                &[queries + 1, capacity, capacity],
                false,
            );
            assert!(
                got == expected(capacity, there),
                "{} of {:?}, {radius:?}",
                plan.label,
                data.shape
            );
        }
    }
    let offsets = plan::row_offsets(&search, radius, caps).unwrap();
    let got = data.run(&offsets, parts, given, &[queries + 1], false);
    assert_eq!(got[0], rows.row_offsets);
    let counts: Vec<u32> = rows
        .row_offsets
        .windows(2)
        .map(|ends| ends[1] - ends[0])
        .collect();
    let count = plan::count(&search, radius, caps).unwrap();
    assert_eq!(data.run(&count, parts, given, &[queries], false)[0], counts);
}

fn check_histogram(data: &Data, parts: &[usize], caps: &Caps) {
    let expected = cpu::histogram(&data.shape, &data.allowed, &data.inputs(None)).unwrap();
    for plan in plan::histogram_variants(&data.search(parts), caps).unwrap() {
        let got = data.run(&plan, parts, None, &[expected.len()], false);
        assert!(got[0] == expected, "{} of {:?}", plan.label, data.shape);
    }
}

#[test]
fn rows_within_a_radius_are_all_there_is_in_order() {
    for (bits, allowed) in [
        (64, ALL),
        (
            33,
            Allowed {
                filter: Filter::Global,
                ranges: false,
                exclude_self: true,
            },
        ),
        (
            128,
            Allowed {
                filter: Filter::PerQuery,
                ranges: true,
                exclude_self: false,
            },
        ),
    ] {
        let mut data = Data::new(bits as u64, [40, 600, bits], allowed);
        // Some codes are equal to a query.
        let width = words(bits);
        for q in 0..20 {
            let code = data.queries[q * width..][..width].to_vec();
            data.database[7 * q * width..][..width].copy_from_slice(&code);
        }
        let bits = bits as u32;
        for order in [Order::Index, Order::Distance] {
            for r in [0, bits / 2 - 1, bits, bits + 9, u32::MAX] {
                check_radius(&data, Radius::All(r), order, &[600], &caps());
            }
            check_radius(&data, Radius::PerQuery, order, &[600], &caps());
        }
    }
}

#[test]
fn rows_do_not_depend_on_how_the_work_is_cut() {
    let data = Data::new(
        15,
        [50, 700, 60],
        Allowed {
            filter: Filter::PerQuery,
            ..ALL
        },
    );
    for caps in devices() {
        for order in [Order::Index, Order::Distance] {
            let small = Caps {
                binding_bytes: caps.binding_bytes.max(1 << 16),
                ..caps.clone()
            };
            check_radius(&data, Radius::All(24), order, &[700], &small);
            check_radius(&data, Radius::PerQuery, order, &[700], &small);
        }
    }
}

#[test]
fn histograms_sum_to_what_is_allowed_and_cumulate_to_counts() {
    let all = Allowed {
        filter: Filter::Global,
        ranges: true,
        exclude_self: true,
    };
    for allowed in [ALL, all] {
        let data = Data::new(16, [35, 800, 70], allowed);
        check_histogram(&data, &[800], &caps());
        for caps in devices() {
            check_histogram(&data, &[800], &caps);
        }
        let rows = cpu::histogram(&data.shape, &allowed, &data.inputs(None)).unwrap();
        for r in [0, 30, 35, 70] {
            let offsets = cpu::radius(
                &data.shape,
                Radius::All(r),
                Order::Index,
                &allowed,
                &data.inputs(None),
            )
            .unwrap();
            for (row, ends) in rows.chunks(71).zip(offsets.row_offsets.windows(2)) {
                assert_eq!(row[..=r as usize].iter().sum::<u32>(), ends[1] - ends[0]);
            }
        }
        if allowed == ALL {
            assert!(rows.chunks(71).all(|row| row.iter().sum::<u32>() == 800));
        }
    }
}

#[test]
fn the_calls_do_as_their_plans() {
    let gpu = gpu();
    let data = Data::new(17, [12, 400, 48], ALL);
    let queries = gpu.upload(&data.queries).unwrap();
    let database = upload(gpu, 48, &data.database).unwrap();
    let radii = gpu.upload(&data.radii).unwrap();
    let inputs = Inputs::new(&queries, &database);
    let shape = &data.shape;
    let (mut distance, mut index) = (gpu.zeros(60).unwrap(), gpu.zeros(60).unwrap());
    let out = Neighbours {
        distance: &mut distance,
        index: &mut index,
    };
    hamming::knn(gpu, shape, 5, &ALL, &inputs, out).unwrap();
    assert_eq!(
        vec![distance.download().unwrap(), index.download().unwrap()],
        data.knn(5)
    );

    let inputs = Inputs {
        radii: Some(&radii),
        ..inputs
    };
    let expected = cpu::radius(
        shape,
        Radius::PerQuery,
        Order::Distance,
        &ALL,
        &data.inputs(Some(Radius::PerQuery)),
    )
    .unwrap();
    let mut row_offsets = gpu.zeros(13).unwrap();
    let total = hamming::radius_count(
        gpu,
        shape,
        Radius::PerQuery,
        &ALL,
        &inputs,
        &mut row_offsets,
    )
    .unwrap();
    assert_eq!(total, expected.index.len());
    for capacity in [total, total - 1] {
        let (mut distance, mut index) =
            (gpu.zeros(capacity).unwrap(), gpu.zeros(capacity).unwrap());
        let out = Rows {
            row_offsets: &mut row_offsets,
            distance: &mut distance,
            index: &mut index,
        };
        let done = hamming::radius(
            gpu,
            shape,
            Radius::PerQuery,
            Order::Distance,
            &ALL,
            &inputs,
            out,
        );
        if capacity == total {
            assert_eq!(done, Ok(()));
            assert_eq!(
                (distance.download().unwrap(), index.download().unwrap()),
                (expected.distance.clone(), expected.index.clone())
            );
        } else {
            let Err(Error::Limit {
                needed, available, ..
            }) = done
            else {
                panic!("{done:?}")
            };
            assert_eq!((needed, available), (total as u64, capacity as u64));
            assert!(index.download().unwrap().iter().all(|j| *j == ABSENT));
        }
    }
    let mut counts = gpu.zeros(12).unwrap();
    hamming::count(gpu, shape, Radius::PerQuery, &ALL, &inputs, &mut counts).unwrap();
    let ends: Vec<u32> = expected
        .row_offsets
        .windows(2)
        .map(|ends| ends[1] - ends[0])
        .collect();
    assert_eq!(counts.download().unwrap(), ends);
    let inputs = Inputs {
        radii: None,
        ..inputs
    };
    let mut counts = gpu.zeros(12 * 49).unwrap();
    hamming::histogram(gpu, shape, &ALL, &inputs, &mut counts).unwrap();
    assert_eq!(
        counts.download().unwrap(),
        cpu::histogram(shape, &ALL, &data.inputs(None)).unwrap()
    );
}

#[test]
fn mistakes_are_named() {
    let gpu = gpu();
    let queries = gpu.upload(&[1u32; 6]).unwrap();
    let database = [gpu.upload(&[1u32; 10]).unwrap()];
    let shape = Shape {
        queries: 3,
        items: 5,
        bits: 64,
    };
    let refused = |shape: Shape, allowed: Allowed, k: usize, words: &str| {
        let (mut distance, mut index) = (gpu.zeros(3).unwrap(), gpu.zeros(3).unwrap());
        let out = Neighbours {
            distance: &mut distance,
            index: &mut index,
        };
        let error = hamming::knn(
            gpu,
            &shape,
            k,
            &allowed,
            &Inputs::new(&queries, &database),
            out,
        )
        .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(shape, ALL, 2, "distance must be 6 elements");
    refused(
        Shape { bits: 0, ..shape },
        ALL,
        1,
        "bits must be 1 to 65536",
    );
    refused(
        Shape { bits: 65, ..shape },
        ALL,
        1,
        "queries must be 9 elements",
    );
    refused(
        Shape { items: 6, ..shape },
        ALL,
        1,
        "database must be 12 elements",
    );
    refused(
        shape,
        Allowed {
            filter: Filter::Global,
            ..ALL
        },
        1,
        "filter must be given",
    );
    refused(
        shape,
        Allowed {
            ranges: true,
            ..ALL
        },
        1,
        "ranges must be given",
    );
    let search = Search {
        shape,
        parts: &[4],
        allowed: ALL,
    };
    let error = plan::knn(&search, 1, gpu.caps()).unwrap_err();
    assert!(
        error.to_string().contains("parts must be 5 items in all"),
        "{error}"
    );
    let wide = Search {
        shape: Shape {
            bits: 65_536,
            ..shape
        },
        parts: &[5],
        allowed: ALL,
    };
    let small = Caps {
        binding_bytes: 4096,
        ..caps()
    };
    assert!(matches!(
        plan::knn(&wide, 1, &small),
        Err(Error::Limit { .. })
    ));
}

#[test]
fn large_searches_have_plans_on_every_device() {
    for caps in Caps::presets() {
        for (queries, items, bits, k) in [
            (10_000, 10_000_000, 256, 10),
            (10_000, 10_000_000, 1024, 10),
            (1, 10_000_000, 256, 10),
            (1, 1 << 20, 65_536, 100_000),
            (100_000, 1 << 20, 64, 1),
            (7, 3_000_000, 4000, 100_000),
        ] {
            let shape = Shape {
                queries,
                items,
                bits,
            };
            let rows = hamming::search::part_rows(bits, &caps);
            let parts: Vec<usize> = (0..items)
                .step_by(rows)
                .map(|first| rows.min(items - first))
                .collect();
            let search = Search {
                shape,
                parts: &parts,
                allowed: ALL,
            };
            let plan = plan::knn(&search, k, &caps).unwrap();
            let bounded = plan.label.starts_with("bounded");
            assert_eq!(bounded, k < 1000, "{} on {}", plan.label, caps.name);
            assert!(
                plan.steps
                    .iter()
                    .all(|step| step.predicted_ms <= 200.0 || step.groups == 1),
                "{}",
                caps.name
            );
            assert!(
                plan.scratch_bytes() <= caps.scratch_bytes / 2,
                "{} on {}",
                plan.scratch_bytes(),
                caps.name
            );
        }
    }
}
