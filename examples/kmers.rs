//! Finds 23-mers with at most three mismatches on both strands of the genome of phage λ, as off-target searches do.
//!
//! `cargo run --release --example kmers [genome.fa]`: some places of the genome are copied, a few of their bases changed, and
//! every place that resembles the copies is searched for. The hits must be those of the reference on the processor.
use std::{error::Error, time::Instant};

use subquad::{
    Gpu, Select,
    hamming::{
        cpu::sliding as cpu,
        sliding::{Hits, Pattern, Query, Text, k_mismatch, k_mismatch_count},
    },
};

const GENOME: &[u8] = include_bytes!("data/lambda_phage.fa");

/// Bases of a k-mer, how many may differ, and how many are searched for.
const LEN: usize = 23;
const K: u32 = 3;
const COPIES: usize = 12;

/// The bases of a FASTA file, in upper case.
fn bases(fasta: &[u8]) -> Vec<u8> {
    let lines = fasta.split(|byte| *byte == b'\n');
    let bases = lines.filter(|line| !line.starts_with(b">")).flatten();
    bases
        .filter(|byte| byte.is_ascii_alphabetic())
        .map(u8::to_ascii_uppercase)
        .collect()
}

/// The other strand, read in its own direction.
fn reverse_complement(bases: &[u8]) -> Vec<u8> {
    let complement = |base: &u8| match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        other => *other,
    };
    bases.iter().rev().map(complement).collect()
}

/// Copies of places spread over the genome, number n with n mod 4 of its bases changed; every other one from the other strand.
fn copies(genome: &[u8]) -> Vec<Vec<u8>> {
    let places = genome.len().saturating_sub(LEN) / COPIES;
    let copy = |(n, window): (usize, &[u8])| {
        let mut copy = window.to_vec();
        for changed in 0..n % 4 {
            let base = &mut copy[3 + 7 * changed];
            *base = if *base == b'A' { b'C' } else { b'A' };
        }
        if n % 2 == 1 {
            copy = reverse_complement(&copy);
        }
        copy
    };
    genome
        .windows(LEN)
        .step_by(places.max(1))
        .take(COPIES)
        .enumerate()
        .map(copy)
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let fasta = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => GENOME.to_vec(),
    };
    let genome = bases(&fasta);
    let copies = copies(&genome);
    // Pattern 2n is copy n, pattern 2n + 1 what it looks like from the other strand.
    let query = |bases: &[u8]| Query::new(Pattern::new(bases), K);
    let queries: Vec<Query> = copies
        .iter()
        .flat_map(|copy| [query(copy), query(&reverse_complement(copy))])
        .collect();

    let gpu = Gpu::open(&Select::from_env())?;
    let text = gpu.upload(&genome)?;
    let text = Text::new(&text);
    let capacity = k_mismatch_count(&gpu, &text, &queries, None)?;
    let mut position = gpu.zeros(capacity)?;
    let mut pattern = gpu.zeros(capacity)?;
    let mut distance = gpu.zeros(capacity)?;
    let mut total = gpu.zeros(1)?;
    let started = Instant::now();
    let hits = Hits {
        position: &mut position,
        pattern: &mut pattern,
        distance: &mut distance,
        total: &mut total,
    };
    let found = k_mismatch(&gpu, &text, &queries, None, hits)?;
    let took = started.elapsed();

    let columns = [&position, &pattern, &distance].map(|column| column.download());
    let [positions, patterns, distances] = columns;
    let (positions, patterns, distances) = (positions?, patterns?, distances?);
    println!("position  copy  strand  distance  bases");
    for ((position, pattern), distance) in positions.iter().zip(&patterns).zip(&distances) {
        let at = *position as usize;
        let want = &queries[*pattern as usize].pattern.symbols;
        // Mismatches in lower case.
        let bases: String = genome[at..at + LEN]
            .iter()
            .zip(want)
            .map(|(base, want)| match u32::from(*base) == *want {
                true => char::from(*base),
                false => char::from(base.to_ascii_lowercase()),
            })
            .collect();
        let strand = if pattern % 2 == 0 { '+' } else { '-' };
        println!(
            "{position:8}  {:4}  {strand:>6}  {distance:8}  {bases}",
            pattern / 2
        );
    }
    println!(
        "{found} hits of {} patterns at most {K} away in {} bases, in {:.1} ms on {}",
        queries.len(),
        genome.len(),
        took.as_secs_f64() * 1e3,
        gpu.caps().name
    );

    let symbols: Vec<u32> = genome.iter().map(|base| u32::from(*base)).collect();
    let host = cpu::Text {
        symbols: &symbols,
        wild: None,
    };
    let expected = cpu::k_mismatch(&host, &queries, None)?;
    let rows = positions.iter().zip(&patterns).zip(&distances);
    if !rows
        .map(|((position, pattern), distance)| [*position, *pattern, *distance])
        .eq(expected)
    {
        return Err("the hits differ from those of the reference".into());
    }
    println!("the reference on the processor finds the same");
    Ok(())
}
