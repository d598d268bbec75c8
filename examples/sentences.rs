//! How much of an exact search by cosine similarity survives when sentence embeddings become codes of one bit per dimension: the
//! share of the ten nearest neighbours that codes find, and that codes find with the embeddings ordering the hundred nearest.
use std::{error::Error, path::Path, time::Instant};

use safetensors::SafeTensors;
use subquad::{
    Gpu, Select,
    cli::search::{Embeddings, Threshold, nearest, recall, rerank},
    hamming::{
        self,
        search::{Allowed, Inputs, Neighbours, Shape, upload},
        simd,
    },
};

const K: usize = 10;
const CANDIDATES: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::open(&Select::from_env())?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    compare(&gpu, "3,000 sentences", &small(folder)?)?;
    let file = folder.join("../shared/data/sentence_embeddings.safetensors");
    if file.exists() {
        let [database, queries] = [("database", "database"), ("queries", "queries")]
            .map(|(name, argument)| Embeddings::read(&file, name, argument));
        compare(&gpu, "20,000 sentences", &[database?, queries?])?;
    } else {
        println!(
            "skipped: all 20,000 sentences, {} is not there",
            file.display()
        );
    }
    Ok(())
}

/// The embeddings beside this example, 8 bits to a number: level n stands for (n + 1/2) steps, so that signs are kept.
fn small(folder: &Path) -> Result<[Embeddings; 2], Box<dyn Error>> {
    let bytes = std::fs::read(folder.join("examples/data/sentence_embeddings.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let load = |name| -> Result<Embeddings, Box<dyn Error>> {
        let tensor = file.tensor(name)?;
        let &[rows, dims] = tensor.shape() else {
            return Err(format!("{name} must be [rows, dimensions]").into());
        };
        let values = tensor
            .data()
            .iter()
            .map(|level| f32::from(*level as i8) + 0.5)
            .collect();
        Ok(Embeddings { rows, dims, values })
    };
    Ok([load("database")?, load("queries")?])
}

fn compare(
    gpu: &Gpu,
    what: &str,
    [database, queries]: &[Embeddings; 2],
) -> Result<(), Box<dyn Error>> {
    let shape = Shape {
        queries: queries.rows,
        items: database.rows,
        bits: database.dims,
    };
    println!(
        "{what}, {} queries, {} bits each, on {}",
        queries.rows,
        shape.bits,
        gpu.caps().name
    );
    let exact = nearest(database, queries, K, false);
    for threshold in [Threshold::Zero, Threshold::Mean, Threshold::Median] {
        let thresholds = threshold.of(database);
        let codes = gpu.upload(&queries.pack(&thresholds)?)?;
        let items = upload(gpu, shape.bits, &database.pack(&thresholds)?)?;
        let len = queries.rows * CANDIDATES;
        let (mut distance, mut index) = (gpu.zeros(len)?, gpu.zeros(len)?);
        let started = Instant::now();
        let out = Neighbours {
            distance: &mut distance,
            index: &mut index,
        };
        hamming::knn(
            gpu,
            &shape,
            CANDIDATES,
            &Allowed::default(),
            &Inputs::new(&codes, &items),
            out,
        )?;
        let found = simd::Neighbours {
            distance: distance.download()?,
            index: index.download()?,
        };
        let seconds = started.elapsed().as_secs_f64();
        let firsts: Vec<u32> = found
            .index
            .chunks(CANDIDATES)
            .flat_map(|row| &row[..K])
            .copied()
            .collect();
        let ranked = rerank(database, queries, &found, CANDIDATES, K);
        println!(
            "  bits above {:<7} recall@{K} {:.3} by Hamming distance, {:.3} with the {CANDIDATES} nearest re-ranked; {:.0} ms",
            threshold.name(),
            recall(&firsts, &exact, K),
            recall(&ranked.found.index, &exact, K),
            1e3 * seconds
        );
    }
    Ok(())
}
