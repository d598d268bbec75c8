//! `subquad shaders`: the assembled kernels, and what each graphics API is given.

use std::{collections::HashSet, fmt::Write as _, path::Path, sync::Arc};

use super::retain;
use crate::{
    Error,
    case::{Failure, ops, write_whole},
    gpu::{Caps, Dtype, Kernel},
    linear::{
        Decay, Layout, Options, Shape,
        plan::{self, States},
    },
    plan::Plan,
    roof, softmax,
    translate::translate,
};

/// Writes every kernel that planners choose on the presets, or those whose name contains the filter, as WGSL, SPIR-V, MSL and HLSL,
/// with an index of names and variants.
///
/// # Errors
/// `File` when the folder cannot be written, `Shader` when a kernel has no translation, `Usage` when no name contains the filter.
pub fn shaders(out: &Path, filter: Option<&str>) -> Result<(), Failure> {
    let mut kernels = kernels()?;
    retain(&mut kernels, filter, "kernel's name contains", |kernel| {
        kernel.name.to_owned()
    })?;
    std::fs::create_dir_all(out).map_err(|error| Failure::File {
        path: out.display().to_string(),
        message: error.to_string(),
    })?;
    let mut index = String::new();
    let mut number = 0;
    let mut previous = "";
    for kernel in &kernels {
        number = if kernel.name == previous {
            number + 1
        } else {
            0
        };
        previous = kernel.name;
        let name = format!("{}-{number:03}", kernel.name.replace('/', "-"));
        // Writing to a String cannot fail.
        let _ = writeln!(index, "{name}\t{}", kernel.label());
        let translated = translate(kernel)?;
        let write = |extension: &str, bytes: &[u8]| {
            write_whole(&out.join(format!("{name}.{extension}")), bytes)
        };
        write("wgsl", kernel.source().as_bytes())?;
        let words = translated.spirv.iter().flat_map(|word| word.to_le_bytes());
        write("spv", &words.collect::<Vec<u8>>())?;
        for (extension, text) in [("metal", translated.msl), ("hlsl", translated.hlsl)] {
            if let Some(text) = text {
                write(extension, text.as_bytes())?;
            }
        }
    }
    write_whole(&out.join("index.txt"), index.as_bytes())?;
    say!(
        "{} kernels as WGSL, SPIR-V, MSL and HLSL in {}; index.txt names the variants",
        kernels.len(),
        out.display()
    );
    Ok(())
}

/// Every distinct kernel of the plans on all presets, sorted by name and variant.
fn kernels() -> Result<Vec<Arc<Kernel>>, Failure> {
    let cases: Vec<_> = ops().iter().flat_map(|op| (op.builtin)()).collect();
    let problems = cases
        .iter()
        .map(|case| case.bind())
        .collect::<Result<Vec<_>, _>>()?;
    let mut found = HashSet::new();
    for preset in Caps::presets() {
        // A device may lack 16-bit arithmetic whatever its class.
        for f16 in [preset.f16, false] {
            let caps = Caps {
                f16,
                matrices: preset.matrices.filter(|_| f16),
                ..preset.clone()
            };
            let mut plans = linear_plans(&caps)?;
            plans.extend(rival_plans(&caps)?);
            for problem in &problems {
                plans.extend(problem.plans(&caps, true)?);
                match problem.adjoint().map(|adjoint| adjoint.plans(&caps, true)) {
                    None | Some(Err(Error::Unsupported { .. })) => {}
                    Some(adjoints) => plans.extend(adjoints?),
                }
            }
            found.extend(
                plans
                    .into_iter()
                    .flat_map(|plan| plan.steps)
                    .map(|step| step.kernel),
            );
        }
    }
    let mut kernels: Vec<_> = found.into_iter().collect();
    kernels.sort_by_cached_key(|kernel| (kernel.name, kernel.label()));
    Ok(kernels)
}

/// Linear attention at the widths that benchmarks use, in every type and with every combination of states.
fn linear_plans(caps: &Caps) -> Result<Vec<Plan>, Error> {
    let mut plans = Vec::new();
    for width in [32, 64, 128] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for decay in [Decay::None, Decay::Head] {
                let shape = shape(width, 4096, dtype);
                let options = Options {
                    decay,
                    ..Options::plain()
                };
                for initial in [false, true] {
                    let states = States {
                        initial,
                        last: true,
                        ..States::default()
                    };
                    plans.extend(plan::variants(&shape, &options, states, caps)?);
                }
                plans.push(plan::step(
                    &Shape { tokens: 1, ..shape },
                    &options,
                    [None; 2],
                    caps,
                )?);
            }
        }
    }
    Ok(plans)
}

/// The roofs and softmax attention.
fn rival_plans(caps: &Caps) -> Result<Vec<Plan>, Error> {
    let mut plans = vec![
        roof::copy(16 << 20, caps)?,
        roof::fma(caps)?,
        roof::popcount(caps)?,
    ];
    for width in [30, 32, 64, 128] {
        for tokens in [64, 4096] {
            for causal in [false, true] {
                let shape = shape(width, tokens, Dtype::F32);
                plans.push(softmax::attention(&shape, 1.0, causal, caps)?);
            }
        }
    }
    Ok(plans)
}

fn shape(width: usize, tokens: usize, dtype: Dtype) -> Shape {
    Shape {
        batch: 1,
        tokens,
        heads: 8,
        kv_heads: 8,
        key: width,
        value: width,
        layout: Layout::Bthd,
        dtype,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_distinct_and_every_shader_file_is_among_them() {
        let kernels = kernels().unwrap();
        let labels: HashSet<String> = kernels.iter().map(|kernel| kernel.label()).collect();
        assert_eq!(labels.len(), kernels.len(), "two kernels share a label");
        for name in [
            "linear/chunk",
            "linear/recurrent",
            "roof/copy",
            "roof/fma",
            "softmax/attention",
            "softmax/lanes",
        ] {
            assert!(kernels.iter().any(|kernel| kernel.name == name), "{name}");
        }
    }
}
