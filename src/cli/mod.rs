//! The commands of the program. Results go to standard output, everything else to standard error.

/// `println!` that outlives its reader: what a closed pipe no longer takes is dropped.
macro_rules! say {
    ($($arguments:tt)*) => {
        let _ = std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{}\n", format_args!($($arguments)*)));
    };
}
pub mod apply;
pub mod bench;
pub mod check;
pub mod demo;
pub mod info;
pub mod npy;
pub mod report;
pub mod search;
pub mod shaders;
pub mod tune;

use std::path::PathBuf;

use crate::{Error, Gpu, Select, case::Failure};

/// Leaves the items of which a text contains the filter, all without one; `what` names the text, as "kernel's name contains".
///
/// # Errors
/// `Usage` when none is left by a filter.
fn retain<T>(
    items: &mut Vec<T>,
    filter: Option<&str>,
    what: &str,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let Some(filter) = filter else { return Ok(()) };
    items.retain(|item| text(item).contains(filter));
    match items.is_empty() {
        true => Err(Failure::Usage(format!("no {what} \"{filter}\""))),
        false => Ok(()),
    }
}

/// Where a command computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The adapter, or the CPU reference where there is none.
    Auto,
    /// The adapter.
    Gpu,
    /// The CPU reference.
    Cpu,
}

/// The adapter to compute on, or none for the CPU reference; says so where that was not asked for.
///
/// # Errors
/// Those of [`Gpu::open`], but for a missing adapter under [`Device::Auto`].
pub fn open(device: Device, select: &Select) -> Result<Option<Gpu>, Failure> {
    match device {
        Device::Cpu => Ok(None),
        Device::Gpu => Ok(Some(Gpu::open(select)?)),
        Device::Auto => match Gpu::open(select) {
            Ok(gpu) => Ok(Some(gpu)),
            Err(error @ Error::NoAdapter { .. }) if select.adapter_name.is_none() => {
                eprintln!("{error}: computing with the CPU reference");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// Files named directly, and the safetensors files of folders, sorted.
///
/// # Errors
/// `File` when a path does not exist or a folder cannot be read.
pub fn case_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let fail = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let kind = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
        if !kind.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| fail(error.to_string()))?;
        let mut inside: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
        inside.retain(|path| {
            path.is_dir()
                || path
                    .extension()
                    .is_some_and(|extension| extension == "safetensors")
        });
        inside.sort();
        files.extend(case_files(&inside)?);
    }
    Ok(files)
}
