//! The program: arguments in, exit status out.

use std::{cell::RefCell, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use subquad::{
    Gpu, Select,
    case::Failure,
    cli::{self, Device, apply, bench, check, demo, info, search, shaders, tune},
};

/// Sub-quadratic operators on any GPU.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    choice: Choice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Choice {
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto, global = true)]
    device: Device,
    /// Part of the adapter's name (or WGPU_ADAPTER_NAME).
    #[arg(long, global = true, value_name = "NAME")]
    adapter: Option<String>,
    /// Graphics API: vulkan, metal or dx12 (or WGPU_BACKEND).
    #[arg(long, global = true)]
    backend: Option<String>,
    /// The longest to wait for the device, in seconds.
    #[arg(long, global = true, default_value_t = 30.0, value_name = "SECONDS")]
    timeout: f64,
    /// Choices that `tune` wrote on this adapter (or SUBQUAD_PROFILE).
    #[arg(long, global = true, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// A folder in which compiled pipelines are kept from run to run, on Vulkan (or SUBQUAD_PIPELINE_CACHE).
    #[arg(long, global = true, value_name = "DIR")]
    pipeline_cache: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Lists adapters, their limits and the kernel variants they enable.
    Info {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs the operator named in a safetensors file and writes its outputs.
    Apply {
        /// The input: tensors `in.q`, … or `q`, …; metadata `op` and `params`.
        input: PathBuf,
        /// The output, a safetensors file with `out.*`; on the CPU, `grad.*` as well where the input has `grad_out.*`.
        #[arg(short, long)]
        output: PathBuf,
        /// The operator, where the metadata names none.
        #[arg(long)]
        op: Option<String>,
        /// A parameter as key=value, overriding the metadata; values are JSON or text.
        #[arg(long = "param", value_name = "KEY=VALUE")]
        params: Vec<String>,
        /// Skip the comparison with the CPU reference.
        #[arg(long)]
        no_verify: bool,
    },
    /// Compares case files, or the built-in cases, with their expected values.
    Check {
        /// Case files and folders of them.
        paths: Vec<PathBuf>,
        /// Only cases whose operator and name, as operator/name, contain this.
        #[arg(long)]
        filter: Option<String>,
        /// Only the planner's choice, not every plan.
        #[arg(long)]
        quick: bool,
    },
    /// Measures three roofs of the adapter, then every operator against them; with --device cpu, search on the processor.
    Bench {
        /// Only cases whose name contains this.
        #[arg(long)]
        filter: Option<String>,
        /// Writes the figures as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Writes a report with plots.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Figures that an earlier run wrote with --json: prints both, and fails where a case got slower beyond the noise.
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
        /// Fewer repetitions.
        #[arg(long)]
        quick: bool,
    },
    /// Tries every value of the operators' choices on this adapter, verified, and says which were quickest.
    Tune {
        /// Only this operator.
        #[arg(long)]
        op: Option<String>,
        /// Writes a profile, to be loaded by `Select::profile`, --profile or SUBQUAD_PROFILE.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// Fewer repetitions.
        #[arg(long)]
        quick: bool,
    },
    /// The main job: a real attention layer through lightning attention, checked, compared and timed, with a report.
    Demo {
        /// The report.
        #[arg(long, value_name = "FILE", default_value = "subquad-demo.html")]
        html: PathBuf,
        /// Shorter sequences.
        #[arg(long)]
        quick: bool,
    },
    /// Finds the nearest neighbours of embeddings by binary codes and writes them.
    Search {
        /// Embeddings to search, [rows, dimensions] in f32 or f16: a safetensors or an .npy file.
        database: PathBuf,
        /// Embeddings searched for, where another file has them.
        #[arg(long, value_name = "FILE")]
        queries: Option<PathBuf>,
        /// The tensor of the database in a safetensors file.
        #[arg(long, value_name = "NAME", default_value = "database")]
        database_tensor: String,
        /// The tensor of the queries in a safetensors file.
        #[arg(long, value_name = "NAME", default_value = "queries")]
        queries_tensor: String,
        /// The output, a safetensors file with `distance` and `index`.
        #[arg(short, long)]
        output: PathBuf,
        /// Neighbours of each query.
        #[arg(short, long, default_value_t = 10)]
        k: usize,
        /// A bit is 1 where a value exceeds this, per dimension.
        #[arg(long, value_enum, default_value_t = search::Threshold::Zero)]
        threshold: search::Threshold,
        /// Finds so many by codes and keeps the k of them with the largest cosine similarity.
        #[arg(long, value_name = "N")]
        rerank: Option<usize>,
        /// Compares with the nearest by cosine similarity.
        #[arg(long)]
        recall: bool,
        /// Query n is item n, which is not to be found; without --queries the database is searched for itself.
        #[arg(long)]
        exclude_self: bool,
    },
    /// Writes the assembled WGSL of every kernel variant, with SPIR-V, MSL and HLSL beside it.
    Shaders {
        /// The folder.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Only kernels whose name contains this.
        #[arg(long)]
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("subquad: {failure}");
            ExitCode::from(if matches!(failure, Failure::Missed(_)) {
                1
            } else {
                2
            })
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let select = select(&cli.choice)?;
    let opened = RefCell::new(None);
    let open = || {
        let gpu = cli::open(cli.choice.device, &select)?;
        opened.borrow_mut().clone_from(&gpu);
        Ok::<_, Failure>(gpu)
    };
    command(cli.command, &select, &open)?;
    if let Some(gpu) = opened.take() {
        gpu.save_pipelines()?;
    }
    Ok(())
}

fn command(
    command: Command,
    select: &Select,
    open: &dyn Fn() -> Result<Option<Gpu>, Failure>,
) -> Result<(), Failure> {
    match command {
        Command::Info { json } => info::info(select, json),
        Command::Apply {
            input,
            output,
            op,
            params,
            no_verify,
        } => {
            let params = params
                .iter()
                .map(|text| apply::param(text))
                .collect::<Result<_, _>>()?;
            let gpu = open()?;
            apply::apply(&apply::Apply {
                input,
                output,
                op,
                params,
                verify: !no_verify,
                gpu,
            })
        }
        Command::Check {
            paths,
            filter,
            quick,
        } => check::check(&check::Check {
            paths,
            filter,
            gpu: open()?,
            quick,
        })
        .map(drop),
        Command::Bench {
            filter,
            json,
            html,
            compare,
            quick,
        } => bench::bench(&bench::BenchArgs {
            gpu: open()?,
            select: select.clone(),
            compare,
            filter,
            json,
            html,
            quick,
        }),
        Command::Tune { op, write, quick } => tune::tune(&tune::TuneArgs {
            gpu: open()?.ok_or_else(|| {
                Failure::Usage(
                    "tune needs an adapter: there are no choices on the processor".into(),
                )
            })?,
            op,
            write,
            quick,
        }),
        Command::Demo { html, quick } => demo::demo(&demo::DemoArgs {
            gpu: open()?,
            html,
            quick,
        }),
        Command::Search {
            database,
            queries,
            database_tensor,
            queries_tensor,
            output,
            k,
            threshold,
            rerank,
            recall,
            exclude_self,
        } => {
            let gpu = open()?;
            search::search(&search::SearchArgs {
                database,
                queries,
                tensors: [database_tensor, queries_tensor],
                output,
                k,
                threshold,
                rerank,
                recall,
                exclude_self,
                gpu,
            })
        }
        Command::Shaders { out, filter } => shaders::shaders(&out, filter.as_deref()),
    }
}

fn select(choice: &Choice) -> Result<Select, Failure> {
    let mut select = Select::from_env();
    if let Some(name) = &choice.adapter {
        select.adapter_name = Some(name.clone());
    }
    select.profile = choice.profile.clone().or(select.profile);
    select.pipeline_cache = choice.pipeline_cache.clone().or(select.pipeline_cache);
    if let Some(backend) = &choice.backend {
        let backends = subquad::wgpu::Backends::from_comma_list(backend);
        if backends.is_empty() {
            return Err(Failure::Usage(format!(
                "--backend must be vulkan, metal or dx12, got \"{backend}\""
            )));
        }
        select.backends = backends;
    }
    select.timeout = Duration::try_from_secs_f64(choice.timeout)
        .ok()
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "--timeout must be a positive number of seconds, got {}",
                choice.timeout
            ))
        })?;
    Ok(select)
}
