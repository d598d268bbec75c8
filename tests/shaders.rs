//! Every kernel that planners choose, held against each graphics API without a device.

#[path = "common/effort.rs"]
mod effort;

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use effort::{by_turns, sample, thorough};
use subquad::{
    Error, Gpu, Tensor,
    case::ops,
    distill,
    gpu::{Caps, Dtype, Kernel, Needs, View, ViewMut, reflect},
    hamming,
    kronecker::{
        self,
        tensor_linear::{self, extent},
    },
    linear::{
        Channels, Conv2d, Decay, FeatureMap, FeatureShape, Form, Layout, Options, Shape, conv2d,
        features as maps,
        plan::{self, Fold, States},
    },
    plan::{Bind, Plan, Slot, Step, Work},
    softmax,
    translate::{capabilities, translate},
};
use wgpu_naga_bridge::{create_validator, features_to_naga_capabilities};

/// Folders of shaders whose kernels are not collected here yet.
const NOT_COLLECTED: &[&str] = &["roof", "matrix"];

/// Key and value widths stored as every type: narrow, one tile, odd, several tiles, widest.
const WIDTHS: &[(usize, usize)] = &[(4, 4), (64, 64), (65, 65), (300, 20), (512, 512)];

/// Key and value widths stored as f32: they differ from the others by tiles.
const MORE_WIDTHS: &[(usize, usize)] = &[
    (1, 1),
    (3, 7),
    (16, 8),
    (80, 96),
    (128, 128),
    (256, 64),
    (512, 511),
];

/// A kernel and the presets, by number, on which it is planned.
struct Found {
    kernel: Arc<Kernel>,
    presets: HashSet<usize>,
}

/// Every kernel of the family, on every preset, with and without native 16-bit floats.
fn found() -> &'static [Found] {
    static FOUND: OnceLock<Vec<Found>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found: HashMap<Arc<Kernel>, HashSet<usize>> = HashMap::new();
        let cases: Vec<_> = ops().iter().flat_map(|op| (op.builtin)()).collect();
        for (number, preset) in Caps::presets().into_iter().enumerate() {
            for f16 in HashSet::from([preset.f16, false]) {
                let caps = Caps {
                    f16,
                    matrices: preset.matrices.filter(|_| f16),
                    ..preset.clone()
                };
                let mut plans = linear_plans(&caps);
                plans.extend(feature_plans(&caps));
                plans.extend(distill_plans(&caps));
                plans.extend(option_plans(&caps));
                plans.extend(conv2d_plans(&caps));
                plans.extend(kronecker_plans(&caps));
                plans.push(hamming::attention::plan::clip(8, 1.0, 0.0, &caps).unwrap());
                plans.extend(extent_plans(&caps));
                plans.extend(softmax_plans(&caps));
                for case in &cases {
                    let problem = case.bind().unwrap();
                    plans.extend(problem.plans(&caps, true).unwrap());
                    match problem.adjoint().map(|adjoint| adjoint.plans(&caps, true)) {
                        None | Some(Err(Error::Unsupported { .. })) => {}
                        Some(adjoints) => plans.extend(adjoints.unwrap()),
                    }
                }
                for step in plans.into_iter().flat_map(|plan| plan.steps) {
                    found.entry(step.kernel).or_default().insert(number);
                }
            }
        }
        let mut found: Vec<_> = found
            .into_iter()
            .map(|(kernel, presets)| Found { kernel, presets })
            .collect();
        found.sort_by_cached_key(|found| found.kernel.label());
        if !thorough() {
            // Of kernels that differ in their constants alone, the first.
            let mut seen = HashSet::new();
            found.retain(|found| seen.insert(found.kernel.parts.clone()));
        }
        println!("{} kernels", found.len());
        found
    })
}

/// Softmax attention over so many keys that software adapters carry rows from dispatch to dispatch.
fn softmax_plans(caps: &Caps) -> Vec<Plan> {
    let plan = |dtype| {
        let shape = Shape {
            batch: 1,
            tokens: 5000,
            heads: 1,
            kv_heads: 1,
            key: 512,
            value: 512,
            layout: Layout::Bhtd,
            dtype,
        };
        softmax::attention(&shape, 1.0, true, caps).unwrap()
    };
    [Dtype::F32, Dtype::F16, Dtype::Bf16].map(plan).into()
}

/// What bounds the logits of polynomial tensor attention.
fn extent_plans(caps: &Caps) -> Vec<Plan> {
    let plan = |dtype| {
        let shape = tensor_linear::Shape {
            batch: 1,
            heads: 2,
            kv_heads: 1,
            queries: 9,
            keys: vec![7, 300],
            key: 5,
            value: 3,
            dtype,
        };
        extent::plan(&shape, extent::Side::Keys(1), caps).unwrap()
    };
    [Dtype::F32, Dtype::F16, Dtype::Bf16].map(plan).into()
}

fn linear_plans(caps: &Caps) -> Vec<Plan> {
    let mut plans = Vec::new();
    let every: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::Bf16];
    let widths = WIDTHS.iter().map(|width| (*width, every));
    let more = MORE_WIDTHS.iter().map(|width| (*width, &every[..1]));
    for ((key, value), dtypes) in widths.chain(more) {
        for &dtype in dtypes {
            for decay in [Decay::None, Decay::Head] {
                for tokens in [0, 1, 3, 520] {
                    let shape = Shape {
                        batch: 1,
                        tokens,
                        heads: 2,
                        kv_heads: 2,
                        key,
                        value,
                        layout: Layout::Bthd,
                        dtype,
                    };
                    let options = Options {
                        decay,
                        scale: 1.0,
                        form: Form::Auto,
                        ..Options::plain()
                    };
                    plans.push(plan::step(&shape, &options, [None; 2], caps).unwrap());
                    for (initial, last) in [(false, false), (true, true)] {
                        let states = States {
                            initial,
                            last,
                            ..States::default()
                        };
                        let all = plan::variants(&shape, &options, states, caps).unwrap();
                        // A device so slow that the tokens are cut into windows, the later of which resume.
                        let slow = Caps {
                            gflops: all.iter().map(|plan| plan.work.flops).sum::<f64>()
                                / all.len() as f64
                                / 250e6,
                            ..caps.clone()
                        };
                        plans.extend(all);
                        if tokens > 64 {
                            plans.extend(plan::variants(&shape, &options, states, &slow).unwrap());
                        }
                    }
                }
            }
        }
    }
    plans
}

/// Every map in a width of whole vectors and an odd one, to the type of x and to f32.
fn feature_plans(caps: &Caps) -> Vec<Plan> {
    let mut plans = Vec::new();
    for map in FeatureMap::all(2) {
        for key in [8, 5] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                let shape = FeatureShape {
                    batch: 2,
                    tokens: 3,
                    heads: 2,
                    key,
                    layout: Layout::Bhtd,
                    dtype,
                };
                for bias in [false, true] {
                    let weight = map.weight_len(key);
                    let weights = maps::Weights {
                        weight,
                        bias: weight.filter(|_| bias).map(|_| key),
                    };
                    for out in [dtype, Dtype::F32] {
                        plans.push(maps::plan(&shape, map, weights, out, caps).unwrap());
                    }
                    plans.push(maps::plan_adjoint(&shape, map, weights, caps).unwrap());
                }
            }
        }
    }
    plans
}

fn distill_plans(caps: &Caps) -> Vec<Plan> {
    let mut plans = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for (key, features) in [(32, 64), (5, 12)] {
            for causal in [false, true] {
                let shape = distill::Shape {
                    batch: 1,
                    heads: 2,
                    tokens: 100,
                    key,
                    features,
                    dtype,
                };
                let options = distill::Options { causal, scale: 1.0 };
                for plan in [distill::plan::forward, distill::plan::backward] {
                    plans.push(plan(&shape, &options, caps).unwrap());
                }
            }
        }
    }
    plans
}

/// Every rule with every decay, grouped and packed, with vectors and without, in each storage type.
fn option_plans(caps: &Caps) -> Vec<Plan> {
    let mut plans = Vec::new();
    let decays = [Decay::None, Decay::Head, Decay::Token, Decay::Channel];
    let all = (Decay::None, false, false);
    let causal = decays.map(|decay| [(decay, true, false), (decay, true, true)]);
    let dtypes = [Dtype::F32, Dtype::F16, Dtype::Bf16];
    let maps = [FeatureMap::Relu, FeatureMap::Elu1, FeatureMap::Identity];
    let mut turns = (0..9).map(|n| (dtypes[n % 3], maps[n / 3])).cycle();
    for (decay, causal, delta) in causal.into_iter().flatten().chain([all]) {
        for normalize in [None, Some(1e-6)]
            .into_iter()
            .take(if delta { 1 } else { 2 })
        {
            for (width, group) in [(64, 1), (64, 3), (65, 1), (48, 16)] {
                let (dtype, feature_map) = turns.next().unwrap();
                let options = Options {
                    decay,
                    causal,
                    delta,
                    normalize,
                    feature_map,
                    ..Options::plain()
                };
                let shape = Shape {
                    batch: 1,
                    tokens: 200,
                    heads: 2 * group,
                    kv_heads: 2,
                    key: width,
                    value: width,
                    layout: Layout::Bthd,
                    dtype,
                };
                for (initial, cu_seqlens) in [(false, None), (true, Some(&[0, 90, 200][..]))] {
                    let z = normalize.is_some();
                    let states = States {
                        initial,
                        initial_z: initial && z,
                        last: true,
                        last_z: z,
                        cu_seqlens,
                        ..States::default()
                    };
                    plans.extend(plan::variants(&shape, &options, states, caps).unwrap());
                    let upstream = plan::Upstream {
                        initial,
                        initial_z: initial && z,
                        last: initial,
                        last_z: initial && z,
                        initial_z_gradient: initial && z,
                        log_decay: initial && decay != Decay::None,
                        beta: initial && delta,
                        initial_gradient: initial,
                        cu_seqlens,
                        ..plan::Upstream::default()
                    };
                    plans.push(plan::backward(&shape, &options, upstream, caps).unwrap());
                    plans.push(plan::local_adjoint(&shape, &options, states, caps).unwrap());
                }
                plans.push(plan::local_state(&shape, &options, [None; 2], caps).unwrap());
                for fold in [Fold::Merge, Fold::Start, Fold::Adjoint] {
                    plans.push(plan::fold(&shape, &options, fold, caps).unwrap());
                }
                if causal {
                    let one = Shape { tokens: 1, ..shape };
                    plans.push(plan::step(&one, &options, [None; 2], caps).unwrap());
                }
            }
        }
    }
    plans
}

/// Every way to share kernels, and their largest and smallest sizes.
fn conv2d_plans(caps: &Caps) -> Vec<Plan> {
    let mut plans = Vec::new();
    for channels in [Channels::Each, Channels::OfHead, Channels::Heads] {
        for (value, kernel) in [(8, [3, 3]), (7, [5, 5]), (64, [9, 9])] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                for add in [false, true] {
                    let shape = Conv2d {
                        batch: 1,
                        grid: [4, 4],
                        heads: 2,
                        value,
                        layout: Layout::Bthd,
                        dtype,
                        kernel,
                        channels,
                    };
                    plans.push(conv2d::plan(&shape, add, add, caps).unwrap());
                    plans.push(conv2d::plan_adjoint(&shape, add, add, caps).unwrap());
                }
            }
        }
    }
    plans
}

/// What calls of the Kronecker family plan that no case does: sums over rows, and samples.
fn kronecker_plans(caps: &Caps) -> Vec<Plan> {
    use kronecker::{Boundary, Combine, Matrix, Spectrum, SumOptions, laplacian, solve, sum_solve};
    let product = Spectrum::product(&[Matrix::identity(3), Matrix::identity(4)]).unwrap();
    let axis = laplacian(5, 1.0, Boundary::Neumann).unwrap();
    let sum = Spectrum::new(vec![axis], Combine::Sum).unwrap();
    let options = SumOptions::default();
    let plans = [
        solve::plan(&product, 0.1, 2, caps),
        solve::quadratic_plan(&product, 0.1, 2, caps),
        solve::dots_plan(12, 2, caps),
        sum_solve::plan(&sum, &options, 2, caps),
        kronecker::posterior_plan(&product, 0.1, 2, caps),
    ];
    plans.map(Result::unwrap).into()
}

/// Runs a check on every kernel, on all processors, and returns the complaints.
fn each_kernel(check: impl Fn(&Found) -> Result<(), String> + Sync) {
    let found: Vec<&Found> = sample(found()).collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = found
            .chunks(found.len().div_ceil(threads))
            .map(|part| {
                let check = &check;
                scope.spawn(move || {
                    part.iter()
                        .filter_map(|found| {
                            let message = check(found).err()?;
                            Some(format!("{}: {message}", found.kernel.label()))
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(
        complaints.is_empty(),
        "{} of {} kernels:\n{}",
        complaints.len(),
        found.len(),
        complaints.join("\n")
    );
}

/// Runs a program on some input, for at most a minute, and returns its status and both outputs.
fn run(command: &mut Command, input: &[u8]) -> Result<(bool, String), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early closes its input; its status tells.
            let _ = stdin.write_all(input);
        });
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = scope.spawn(move || std::io::read_to_string(&mut stdout));
        let err = scope.spawn(move || std::io::read_to_string(&mut stderr));
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it did not finish within a minute".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = |reader: std::thread::ScopedJoinHandle<'_, std::io::Result<String>>| {
            reader.join().unwrap().map_err(|error| error.to_string())
        };
        Ok((status.success(), text(out)? + &text(err)?))
    })
}

fn features(needs: &Needs) -> (wgpu::Features, wgpu::DownlevelFlags) {
    let mut features = wgpu::Features::IMMEDIATES;
    features.set(wgpu::Features::SHADER_F16, needs.f16);
    features.set(wgpu::Features::SUBGROUP, needs.subgroup);
    features.set(wgpu::Features::SHADER_INT64, needs.words64);
    features.set(
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
        needs.matrices,
    );
    let mut flags = wgpu::DownlevelFlags::empty();
    flags.set(wgpu::DownlevelFlags::SHADER_F16_IN_F32, needs.half);
    (features, flags)
}

#[test]
fn capabilities_are_those_wgpu_grants() {
    for bits in 0..32u32 {
        let needs = Needs {
            f16: bits & 1 != 0,
            half: bits & 2 != 0,
            subgroup: bits & 4 != 0,
            words64: bits & 8 != 0,
            matrices: bits & 16 != 0,
        };
        let (features, flags) = features(&needs);
        assert_eq!(
            capabilities(&needs),
            features_to_naga_capabilities(features, flags)
        );
    }
}

#[test]
fn kernels_agree_with_their_description() {
    let all = Caps::presets();
    each_kernel(|Found { kernel, presets }| {
        let reflection = reflect(kernel).map_err(|error| error.to_string())?;
        let bytes = kernel.params.last().map_or(0, |(_, at)| at + 4);
        if reflection.immediate_bytes as usize != bytes || bytes > 128 {
            return Err(format!(
                "{} bytes of immediates, declared are {bytes}",
                reflection.immediate_bytes
            ));
        }
        let most = presets.iter().map(|n| all[*n].storage_buffers).min();
        if reflection.bindings.len() > most.unwrap_or(8) as usize {
            return Err(format!("{} storage buffers", reflection.bindings.len()));
        }
        Ok(())
    });
}

#[test]
fn kernels_need_what_they_declare_and_no_more() {
    each_kernel(|Found { kernel, .. }| {
        let module = reflect(kernel).map_err(|error| error.to_string())?.module;
        let valid = |needs: &Needs| {
            let (features, flags) = features(needs);
            create_validator(features, flags, naga::valid::ValidationFlags::all())
                .validate(&module)
                .map_err(|error| format!("{:?}", error.into_inner()))
        };
        let needs = kernel.needs;
        valid(&needs)?;
        for (declared, name, less) in [
            (
                needs.f16,
                "f16",
                Needs {
                    f16: false,
                    ..needs
                },
            ),
            (
                needs.half,
                "half",
                Needs {
                    half: false,
                    ..needs
                },
            ),
            (
                needs.subgroup,
                "subgroup",
                Needs {
                    subgroup: false,
                    ..needs
                },
            ),
            (
                needs.words64,
                "words64",
                Needs {
                    words64: false,
                    ..needs
                },
            ),
            (
                needs.matrices,
                "matrices",
                Needs {
                    matrices: false,
                    ..needs
                },
            ),
        ] {
            if declared && valid(&less).is_ok() {
                return Err(format!("it declares {name} and does not need it"));
            }
        }
        Ok(())
    });
}

#[test]
fn kernels_translate_to_every_language() {
    let validator = Command::new("spirv-val").arg("--version").output().is_ok();
    if !validator {
        println!("skipped: spirv-val is not installed");
    }
    each_kernel(|Found { kernel, .. }| {
        let translations = translate(kernel).map_err(|error| error.to_string())?;
        let [x, y, z] = kernel.workgroup;
        let entry = format!("[numthreads({x}, {y}, {z})]");
        for (language, text, entry) in [
            ("MSL", translations.msl, "kernel void main_("),
            ("HLSL", translations.hlsl, &entry),
        ] {
            match text {
                Some(text) if !text.contains(entry) => {
                    return Err(format!("no entry point in its {language}"));
                }
                None if !kernel.needs.matrices => return Err(format!("no {language}")),
                _ => {}
            }
        }
        if validator {
            let bytes: Vec<u8> = translations
                .spirv
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            let mut command = Command::new("spirv-val");
            let target = match kernel.needs.matrices {
                true => "vulkan1.3",
                false => "vulkan1.2",
            };
            let (good, text) = run(command.args(["--target-env", target, "-"]), &bytes)?;
            // CooperativeMatrixKHR, which validators before 2023.4 do not know.
            let unknown = kernel.needs.matrices && text.contains("operand: 6022");
            if !good && !unknown {
                return Err(format!("spirv-val: {text}"));
            }
        }
        Ok(())
    });
}

#[test]
fn undeclared_needs_are_refused() {
    for Found { kernel, .. } in sample(found()) {
        if kernel.needs != Needs::default() {
            let kernel = Kernel {
                needs: Needs::default(),
                ..Kernel::clone(kernel)
            };
            assert!(
                matches!(translate(&kernel), Err(Error::Shader { .. })),
                "{}",
                kernel.label()
            );
        }
    }
}

/// A device that executes nothing and validates everything, with the limits and features of a preset.
fn noop(caps: &Caps) -> Gpu {
    let mut features = wgpu::Features::IMMEDIATES;
    features.set(wgpu::Features::SHADER_F16, caps.f16);
    features.set(wgpu::Features::SUBGROUP, caps.subgroup.is_some());
    features.set(wgpu::Features::SHADER_INT64, caps.words64);
    features.set(wgpu::Features::TIMESTAMP_QUERY, caps.timestamps);
    let limits = wgpu::Limits {
        max_compute_workgroup_storage_size: caps.workgroup_bytes,
        max_compute_invocations_per_workgroup: caps.invocations,
        max_compute_workgroup_size_x: caps.invocations,
        max_compute_workgroup_size_y: caps.invocations,
        max_compute_workgroups_per_dimension: caps.groups_per_dim,
        max_storage_buffer_binding_size: caps.binding_bytes,
        max_buffer_size: caps.buffer_bytes,
        min_storage_buffer_offset_alignment: caps.offset_align,
        max_immediate_size: caps.immediate_bytes,
        max_storage_buffers_per_shader_stage: caps.storage_buffers,
        ..Default::default()
    };
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    descriptor.backend_options.noop = wgpu::NoopBackendOptions {
        limits: Some(limits),
        features: Some(features),
        subgroup_min_size: caps.subgroup.map(|(least, _)| least),
        subgroup_max_size: caps.subgroup.map(|(_, most)| most),
        ..wgpu::NoopBackendOptions::enabled()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::NOOP));
    let adapter = adapters.first().unwrap();
    let request = Gpu::device_request(adapter);
    let (device, queue) = pollster::block_on(adapter.request_device(&request)).unwrap();
    let gpu = Gpu::from_wgpu(&device, &queue, Some(adapter)).unwrap();
    let got = gpu.caps();
    assert_eq!(
        (
            got.f16,
            got.subgroup,
            got.workgroup_bytes,
            got.storage_buffers
        ),
        (
            caps.f16,
            caps.subgroup,
            caps.workgroup_bytes,
            caps.storage_buffers
        )
    );
    assert_eq!(
        (got.invocations, got.binding_bytes, got.buffer_bytes),
        (caps.invocations, caps.binding_bytes, caps.buffer_bytes)
    );
    gpu
}

/// Records and submits plans on tensors of zeros as large as the plans bind.
fn record(gpu: &Gpu, plans: &[Plan]) -> Result<(), String> {
    let mut pass = gpu.pass("shaders");
    for plan in plans {
        let tensors = |output: bool| -> subquad::Result<Vec<Tensor<u32>>> {
            let mut bytes = vec![0; 16];
            for bind in plan.steps.iter().flat_map(|step| &step.bind) {
                if let (Slot::Input(n), false) | (Slot::Output(n), true) = (bind.slot, output) {
                    let most: &mut u64 = &mut bytes[usize::from(n)];
                    *most = bind.bytes.end.max(*most);
                }
            }
            bytes
                .into_iter()
                .map(|bytes| gpu.zeros(bytes.div_ceil(4) as usize))
                .collect()
        };
        let mut run = || {
            let (inputs, mut outputs) = (tensors(false)?, tensors(true)?);
            let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
            let mut targets: Vec<ViewMut<'_>> = outputs.iter_mut().map(Tensor::view_mut).collect();
            pass.run(plan, &views, &mut targets)
        };
        run().map_err(|error: Error| format!("{}: {error}", plan.label))?;
    }
    pass.submit().map(drop).map_err(|error| error.to_string())
}

/// A plan of one dispatch that binds a little of a buffer of its own everywhere.
fn alone(kernel: &Arc<Kernel>) -> Result<Plan, String> {
    let reflection = reflect(kernel).map_err(|error| error.to_string())?;
    let bind = reflection
        .bindings
        .iter()
        .zip(0..)
        .map(|((_, write), n)| Bind {
            slot: if *write {
                Slot::Output(n)
            } else {
                Slot::Input(n)
            },
            bytes: 0..256,
            write: *write,
        })
        .collect();
    Ok(Plan {
        op: "alone",
        label: kernel.label(),
        steps: vec![Step {
            kernel: kernel.clone(),
            bind,
            params: vec![0; reflection.immediate_bytes as usize],
            groups: 1,
            predicted_ms: 0.0,
        }],
        scratch: Vec::new(),
        tables: Vec::new(),
        work: Work::default(),
    })
}

#[test]
fn pipelines_compile_on_every_preset() {
    let gpus: Vec<Gpu> = Caps::presets().iter().map(noop).collect();
    let some = |found: &Found| -> Vec<usize> {
        let mut all: Vec<usize> = found.presets.iter().copied().collect();
        all.sort_unstable();
        by_turns(all, found.kernel.label().len()).collect()
    };
    each_kernel(|found| {
        let kernel = &found.kernel;
        let plan = alone(kernel)?;
        // A device that executes nothing passes no test of its matrix units.
        if kernel.needs.matrices {
            return Ok(());
        }
        for number in some(found) {
            record(&gpus[number], std::slice::from_ref(&plan))?;
        }
        Ok(())
    });
    for (number, gpu) in gpus.iter().enumerate() {
        let planned = sample(found())
            .filter(|found| some(found).contains(&number) && !found.kernel.needs.matrices);
        assert_eq!(gpu.pipelines(), planned.count());
    }
}

#[test]
fn plans_record_on_every_preset() {
    for preset in by_turns(Caps::presets(), 4) {
        // A device that executes nothing passes no test of its matrix units.
        let caps = Caps {
            matrices: None,
            ..preset
        };
        let gpu = noop(&caps);
        let plans: Vec<Plan> = sample(option_plans(&caps)).collect();
        record(&gpu, &plans).unwrap();
        for (n, dtype) in [Dtype::F32, Dtype::F16, Dtype::Bf16]
            .into_iter()
            .enumerate()
        {
            for layout in by_turns([Layout::Bthd, Layout::Bhtd], n) {
                for width in [16, 17] {
                    for tokens in [0, 1, 200] {
                        for (initial, last) in [(false, false), (true, true)] {
                            let shape = Shape {
                                batch: 2,
                                tokens,
                                heads: 3,
                                kv_heads: 3,
                                key: 32,
                                value: width,
                                layout,
                                dtype,
                            };
                            let options = Options::lightning();
                            let states = States {
                                initial,
                                last,
                                ..States::default()
                            };
                            let mut plans =
                                plan::variants(&shape, &options, states, &caps).unwrap();
                            plans.push(plan::step(&shape, &options, [None; 2], &caps).unwrap());
                            record(&gpu, &plans).unwrap();
                        }
                    }
                }
            }
        }
    }
}

/// WGSL files below `shaders/`, by path from there.
fn files() -> Vec<(String, String)> {
    fn walk(folder: &Path, root: &Path, files: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, files);
            } else if path.extension().is_some_and(|ext| ext == "wgsl") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy();
                files.push((name.replace('\\', "/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    assert!(!files.is_empty());
    files
}

#[test]
fn every_shader_file_is_part_of_a_kernel() {
    let used: HashSet<&str> = found()
        .iter()
        .flat_map(|found| &found.kernel.parts)
        .map(|part| part.path)
        .collect();
    let unused: Vec<String> = files()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let folder = name.split('/').next().unwrap_or_default();
            !NOT_COLLECTED.contains(&folder) && !used.contains(name.as_str())
        })
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// The functions of a shader, by name and body, without comments.
fn functions(text: &str) -> Vec<(String, String)> {
    let text: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect();
    let mut functions = Vec::new();
    for piece in text.split("\nfn ").skip(1) {
        let name = piece.split('(').next().unwrap_or_default().to_owned();
        let open = piece.find('{').unwrap();
        let mut depth = 0;
        let end = piece[open..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        functions.push((name, piece[open..open + end.unwrap()].to_owned()));
    }
    functions
}

#[test]
fn no_return_can_skip_a_barrier() {
    let mut barriers = 0;
    for (file, text) in files() {
        for (name, body) in functions(&text) {
            let waits = body.contains("Barrier()");
            barriers += usize::from(waits);
            if name == "main" || waits {
                let returns = body
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|word| word == "return");
                assert!(!returns, "`{name}` in {file} returns early");
            }
        }
    }
    assert!(barriers > 0);
}

/// Kernels that one process of Tint takes: the minute it has is for a busy machine.
const TINT_BATCH: usize = 500;

/// Tint proves what naga does not: that barriers and subgroup operations lie in uniform control flow. `SUBQUAD_TINT` names
/// a folder in which `npm install webgpu` was run. Kernels with 64-bit integers, which Tint does not know, have no such operations;
/// those for matrix units, which it does not know either, are the same with plain arithmetic in their place.
#[test]
fn control_flow_is_uniform_to_tint() {
    let Some(folder) = std::env::var_os("SUBQUAD_TINT") else {
        println!("skipped: SUBQUAD_TINT does not name a folder with the npm package webgpu");
        return;
    };
    let (wide, known): (Vec<_>, Vec<_>) = found()
        .iter()
        .filter(|found| !found.kernel.needs.matrices)
        .partition(|found| found.kernel.needs.words64);
    for Found { kernel, .. } in wide {
        let source = kernel.source();
        assert!(!source.contains("Barrier") && !source.contains("subgroup"));
    }
    let sources: Vec<serde_json::Value> = known
        .into_iter()
        .map(|Found { kernel, .. }| {
            // naga does not know this directive, Tint requires it.
            let enable = if kernel.needs.subgroup {
                "enable subgroups;\n"
            } else {
                ""
            };
            let code = format!("{enable}{}", kernel.source());
            serde_json::json!({ "label": kernel.label(), "code": code })
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uniformity.mjs");
    let refused: Vec<serde_json::Value> = sources
        .chunks(TINT_BATCH)
        .flat_map(|sources| {
            let input = serde_json::to_vec(sources).unwrap();
            let once = || run(Command::new("node").arg(&script).arg(&folder), &input).unwrap();
            let (mut good, mut text) = once();
            // Dawn's process has been seen to die without a word, of the same kernels that it took before and after.
            if !good && text.is_empty() {
                (good, text) = once();
            }
            assert!(good, "{text}");
            serde_json::from_str::<Vec<serde_json::Value>>(&text).expect(&text)
        })
        .collect();
    for refusal in &refused {
        eprintln!("{}", refusal["label"]);
        for message in refusal["messages"].as_array().unwrap() {
            eprintln!("    {message}");
        }
    }
    assert!(
        refused.is_empty(),
        "{} of {} kernels",
        refused.len(),
        sources.len()
    );
}
