//! `subquad search`: nearest neighbours of embeddings by their signs, and what that loses against cosine similarity.

mod embeddings;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use super::bench::progress;
use crate::{
    Error, Gpu, Tensor,
    case::{Array, Case, Failure},
    hamming::{
        self,
        search::{Allowed, Inputs, Neighbours, Shape, upload},
        simd,
    },
};

pub use embeddings::{Embeddings, Threshold, nearest, recall, rerank};

/// Queries that are searched together.
const BATCH: usize = 256;

/// Arguments of `search`.
pub struct SearchArgs {
    /// The file of the database.
    pub database: PathBuf,
    /// The file of the queries; none means that of the database.
    pub queries: Option<PathBuf>,
    /// Names of the tensors of the database and of the queries, in safetensors files.
    pub tensors: [String; 2],
    /// The output file.
    pub output: PathBuf,
    /// Neighbours of each query.
    pub k: usize,
    /// What makes a bit.
    pub threshold: Threshold,
    /// Candidates that the embeddings themselves order, where asked for.
    pub rerank: Option<usize>,
    /// Whether to compare with the nearest by cosine similarity.
    pub recall: bool,
    /// Whether query n is item n, and not to be found; without a file of queries the database is searched for itself.
    pub exclude_self: bool,
    /// The device, or none for the processor's vector instructions.
    pub gpu: Option<Gpu>,
}

/// Searches, prints a summary and writes `distance` and `index`, `[queries, k]`, and with re-ranking `cosine`.
///
/// # Errors
/// `File` for what cannot be read or written, `Usage` for arguments that make no sense; those of the device.
pub fn search(args: &SearchArgs) -> Result<(), Failure> {
    let [database_tensor, queries_tensor] = &args.tensors;
    let database = Embeddings::read(&args.database, database_tensor, "--database-tensor")?;
    let is_npy = args
        .database
        .extension()
        .is_some_and(|extension| extension == "npy");
    let queries = match &args.queries {
        Some(file) => Embeddings::read(file, queries_tensor, "--queries-tensor")?,
        None if args.exclude_self => database.clone(),
        None if is_npy => {
            return Err(Failure::Usage(
                "--queries must name a file where the database is an .npy file, unless --exclude-self searches it for itself"
                    .into(),
            ));
        }
        None => Embeddings::read(&args.database, queries_tensor, "--queries-tensor")?,
    };
    check(args, &database, &queries)?;
    let thresholds = args.threshold.of(&database);
    let codes = Codes {
        shape: Shape {
            queries: queries.rows,
            items: database.rows,
            bits: database.dims,
        },
        queries: queries.pack(&thresholds)?,
        database: database.pack(&thresholds)?,
    };
    codes.warn(args.threshold);
    let candidates = args.rerank.unwrap_or(args.k);
    let started = Instant::now();
    let mut found = codes.search(args.gpu.as_ref(), candidates, args.exclude_self)?;
    let seconds = started.elapsed().as_secs_f64();
    let device = match &args.gpu {
        Some(gpu) => gpu.caps().name.clone(),
        None => "the processor".into(),
    };
    say!(
        "{} queries, {} codes of {} bits on {device}",
        queries.rows,
        database.rows,
        database.dims
    );
    say!("  search      {:.3} s, k {candidates}", seconds);
    let mut tensors = BTreeMap::new();
    let exact = args
        .recall
        .then(|| nearest(&database, &queries, args.k, args.exclude_self));
    let compare = |what: &str, index: &[u32]| {
        if let Some(exact) = &exact {
            let share = recall(index, exact, args.k);
            say!(
                "  recall@{:<4} {share:.4} {what} against exact cosine similarity",
                args.k
            );
        }
    };
    if args.rerank.is_some() {
        let firsts: Vec<u32> = found
            .index
            .chunks(candidates)
            .flat_map(|row| row.iter().take(args.k))
            .copied()
            .collect();
        compare("by Hamming distance", &firsts);
        let ranked = rerank(&database, &queries, &found, candidates, args.k);
        found = ranked.found;
        tensors.insert(
            "cosine".to_owned(),
            Array::f32(&[queries.rows, args.k], &ranked.cosine),
        );
        compare("re-ranked", &found.index);
    } else {
        compare("by Hamming distance", &found.index);
    }
    let shape = [queries.rows, args.k];
    tensors.insert("distance".into(), Array::u32(&shape, &found.distance));
    tensors.insert("index".into(), Array::u32(&shape, &found.index));
    let metadata = [
        (
            "source",
            format!("subquad {} search", env!("CARGO_PKG_VERSION")),
        ),
        ("threshold", args.threshold.name().into()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    Case::write_tensors(&args.output, &tensors, metadata)?;
    say!("  written     {}", args.output.display());
    Ok(())
}

fn check(args: &SearchArgs, database: &Embeddings, queries: &Embeddings) -> Result<(), Failure> {
    let usage = |message: String| Err(Failure::Usage(message));
    if args.k == 0 {
        return usage("--k must be at least 1, got 0".into());
    }
    if let Some(candidates) = args.rerank.filter(|n| *n < args.k) {
        return usage(format!(
            "--rerank must be at least --k, {}, got {candidates}",
            args.k
        ));
    }
    if queries.dims != database.dims {
        return usage(format!(
            "--queries must have the database's {} dimensions, got {}",
            database.dims, queries.dims
        ));
    }
    if database.dims == 0 {
        return usage("the database must have at least 1 dimension, got 0".into());
    }
    Ok(())
}

/// Where codes are searched, with the database there.
enum Place<'a> {
    Gpu(&'a Gpu, Vec<Tensor<u32>>),
    Cpu(simd::Database),
}

/// Codes to search.
struct Codes {
    shape: Shape,
    queries: Vec<u32>,
    database: Vec<u32>,
}

impl Codes {
    /// Says so where bits tell nothing apart, as those of embeddings of one sign do.
    fn warn(&self, threshold: Threshold) {
        let (words, bits) = (self.shape.words(), self.shape.bits);
        let mut rows = self.database.chunks(words);
        let first = rows.next().unwrap_or_default();
        let mut differing = vec![0u32; words];
        for row in rows {
            for ((all, x), y) in differing.iter_mut().zip(row).zip(first) {
                *all |= x ^ y;
            }
        }
        let same = bits
            - differing
                .iter()
                .map(|word| word.count_ones() as usize)
                .sum::<usize>();
        if same > 0 && self.shape.items > 1 && threshold == Threshold::Zero {
            eprintln!(
                "{same} of {bits} bits are the same in all codes: --threshold mean or median would use them"
            );
        }
    }

    /// The k nearest of every query, in batches.
    fn search(
        &self,
        gpu: Option<&Gpu>,
        k: usize,
        exclude_self: bool,
    ) -> Result<simd::Neighbours, Failure> {
        // Batches shift queries against items: one more is found, and a query's own item is dropped.
        let wanted = k + usize::from(exclude_self);
        let words = self.shape.words();
        let place = match gpu {
            Some(gpu) => Place::Gpu(gpu, upload(gpu, self.shape.bits, &self.database)?),
            None => Place::Cpu(simd::Database::new(
                &self.database,
                self.shape.bits,
                simd::Options::default(),
            )?),
        };
        let bar = progress(self.shape.queries as u64);
        bar.set_message("searching");
        let mut all = simd::Neighbours::default();
        for (n, queries) in self.queries.chunks(BATCH * words).enumerate() {
            let shape = Shape {
                queries: queries.len() / words,
                ..self.shape
            };
            let found = match &place {
                Place::Gpu(gpu, parts) => on_gpu(gpu, &shape, wanted, queries, parts)?,
                Place::Cpu(database) => {
                    database.knn(queries, wanted, &hamming::Allowed::default())?
                }
            };
            let rows = found
                .distance
                .chunks(wanted)
                .zip(found.index.chunks(wanted));
            for (q, (distance, index)) in rows.enumerate() {
                let own = exclude_self.then_some((n * BATCH + q) as u32);
                let pairs = distance.iter().zip(index);
                for (distance, index) in pairs.filter(|(_, index)| Some(**index) != own).take(k) {
                    all.distance.push(*distance);
                    all.index.push(*index);
                }
            }
            bar.inc(shape.queries as u64);
        }
        bar.finish_and_clear();
        Ok(all)
    }
}

fn on_gpu(
    gpu: &Gpu,
    shape: &Shape,
    k: usize,
    queries: &[u32],
    parts: &[Tensor<u32>],
) -> Result<simd::Neighbours, Error> {
    let queries = gpu.upload(queries)?;
    let len = shape.queries * k;
    let (mut distance, mut index) = (gpu.zeros(len)?, gpu.zeros(len)?);
    let out = Neighbours {
        distance: &mut distance,
        index: &mut index,
    };
    hamming::knn(
        gpu,
        shape,
        k,
        &Allowed::default(),
        &Inputs::new(&queries, parts),
        out,
    )?;
    Ok(simd::Neighbours {
        distance: distance.download()?,
        index: index.download()?,
    })
}
