//! What must not go wrong, whatever the caller does: memory outside tensors, limits, threads, lost and slow devices.

#[path = "common/effort.rs"]
mod effort;

use std::{
    collections::HashSet,
    sync::OnceLock,
    time::{Duration, Instant},
};

use subquad::{
    Error, Gpu, Select,
    case::{Array, Failure, run},
    gpu::{Caps, Dtype, Elem},
    linear::{self, Decay, Form, Inputs, Layout, Options, Outputs, Shape, plan::States},
    wgpu,
};

use effort::{by_turns, sample, thorough};

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(open)
}

fn open() -> Gpu {
    Gpu::open(&Select::from_env())
        .expect("these tests need an adapter, such as Debian's mesa-vulkan-drivers")
}

fn shape(tokens: usize, heads: usize, key: usize, value: usize) -> Shape {
    Shape {
        batch: 1,
        tokens,
        heads,
        kv_heads: heads,
        key,
        value,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    }
}

fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    values: &[T],
) -> Result<Vec<T>, Error> {
    let [q, k] = [0, 1].map(|n| gpu.upload(&values[n..n + shape.key_len()]).unwrap());
    let v = gpu.upload(&values[2..2 + shape.value_len()])?;
    let mut o = gpu.zeros(shape.output_len())?;
    linear::forward(
        gpu,
        shape,
        options,
        &Inputs::new(&q, &k, &v),
        Outputs::new(&mut o),
    )?;
    o.download()
}

fn values(len: usize) -> Vec<f32> {
    (0..len)
        .map(|n| ((n * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect()
}

/// A buffer with 256 guard bytes of 0xA5 round each tensor.
fn guarded(gpu: &Gpu, bytes: &[u8]) -> wgpu::Buffer {
    let size = 512 + bytes.len().next_multiple_of(256);
    let mut all = vec![0xa5u8; size];
    all[256..256 + bytes.len()].copy_from_slice(bytes);
    gpu.upload(&all).unwrap().into_buffer()
}

#[test]
fn bytes_outside_tensors_survive() {
    let gpu = gpu();
    let all = [
        (Dtype::F32, 16, 24),
        (Dtype::F32, 5, 3),
        (Dtype::F16, 8, 4),
        (Dtype::F16, 3, 5),
        (Dtype::Bf16, 1, 7),
    ];
    for (n, (dtype, key, value)) in sample(all.into_iter().enumerate()) {
        for form in by_turns([Form::Fused, Form::Segments(2), Form::Recurrent], n) {
            let shape = Shape {
                dtype,
                ..shape(67, 3, key, value)
            };
            let array = |len: usize| {
                Array::rounded(
                    dtype,
                    &[len],
                    &values(len)
                        .iter()
                        .map(|x| f64::from(*x))
                        .collect::<Vec<_>>(),
                )
                .bytes
            };
            let inputs = [
                array(shape.key_len()),
                array(shape.key_len()),
                array(shape.value_len()),
            ];
            let outputs = [
                vec![0xff; shape.value_len() * dtype.bytes() as usize],
                vec![0xff; shape.state_len() * 4],
            ];
            let wrap = |bytes: &Vec<u8>| (guarded(gpu, bytes), bytes.len());
            let inputs: Vec<_> = inputs
                .iter()
                .map(wrap)
                .map(|(b, len)| gpu.wrap::<u8>(b, 256, len).unwrap())
                .collect();
            let buffers: Vec<_> = outputs.iter().map(wrap).collect();
            let mut wrapped: Vec<_> = buffers
                .iter()
                .map(|(b, len)| gpu.wrap::<u8>(b.clone(), 256, *len).unwrap())
                .collect();
            let options = Options {
                form,
                ..Options::plain()
            };
            let plan = linear::plan::forward(
                &shape,
                &options,
                States {
                    last: true,
                    ..States::default()
                },
                gpu.caps(),
            )
            .unwrap();
            let mut pass = gpu.pass("guards");
            let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
            let mut outs: Vec<_> = wrapped.iter_mut().map(|tensor| tensor.view_mut()).collect();
            // Without run-time checks, which would hide a stray access.
            pass.run_checked(&plan, &views, &mut outs, false).unwrap();
            pass.submit().unwrap();
            for (buffer, len) in buffers {
                let size = buffer.size() as usize;
                let all = gpu.wrap::<u8>(buffer, 0, size).unwrap().download().unwrap();
                // Storage is written by whole words.
                let end = 256 + len.next_multiple_of(4);
                assert!(
                    all[..256]
                        .iter()
                        .chain(&all[end..])
                        .all(|byte| *byte == 0xa5),
                    "{dtype:?} {form:?} {key} x {value}"
                );
                assert!(
                    !all[256..256 + len].chunks(4).any(|word| word == [0xff; 4]),
                    "{dtype:?} {form:?}: outputs left unwritten"
                );
            }
        }
    }
}

/// Numbers from -factor to factor in a buffer with guards, and how many bytes they are.
fn guarded_values(gpu: &Gpu, dtype: Dtype, len: usize, factor: f64) -> (wgpu::Buffer, usize) {
    let values: Vec<f64> = values(len).iter().map(|x| factor * f64::from(*x)).collect();
    let bytes = Array::rounded(dtype, &[len], &values).bytes;
    (guarded(gpu, &bytes), bytes.len())
}

#[test]
fn bytes_outside_every_optional_tensor_survive() {
    let gpu = gpu();
    let normalized = Options {
        decay: Decay::Channel,
        normalize: Some(1.0),
        ..Options::plain()
    };
    let delta = Options {
        decay: Decay::Token,
        delta: true,
        ..Options::plain()
    };
    let bounds: &[u32] = &[0, 9, 9, 67];
    for (options, packed, group, dtype, key, value) in sample([
        (normalized, None, 12, Dtype::F32, 8, 4),
        (normalized, Some(bounds), 1, Dtype::F16, 5, 3),
        (delta, Some(bounds), 2, Dtype::Bf16, 7, 9),
        (delta, None, 1, Dtype::F32, 3, 5),
    ]) {
        let shape = Shape {
            heads: 3 * group,
            kv_heads: 3,
            dtype,
            ..shape(67, 3, key, value)
        };
        let z = options.normalize.is_some();
        let states = States {
            initial: true,
            initial_z: z,
            last: true,
            last_z: z,
            cu_seqlens: packed,
            ..States::default()
        };
        let count = 3 * packed.map_or(1, |bounds| bounds.len() - 1);
        let per_token = 3 * 67;
        let decays = match options.decay {
            Decay::Channel => per_token * key,
            _ => per_token,
        };
        let f32s = |len: usize, factor: f64| guarded_values(gpu, Dtype::F32, len, factor);
        let mut inputs = vec![
            guarded_values(gpu, dtype, shape.query_len(), 1.0),
            guarded_values(gpu, dtype, shape.key_len(), 0.2),
            guarded_values(gpu, dtype, shape.value_len(), 1.0),
            f32s(decays, 0.0),
        ];
        if options.delta {
            inputs.push(f32s(per_token, 0.5));
        }
        inputs.push(f32s(count * key * value, 1.0));
        let mut sizes = vec![shape.output_len() * dtype.bytes() as usize];
        sizes.push(4 * count * key * value);
        if z {
            inputs.push(f32s(count * key, 1.0));
            sizes.push(4 * count * key);
        }
        let outputs: Vec<_> = sizes
            .iter()
            .map(|len| (guarded(gpu, &vec![0xff; *len]), *len))
            .collect();
        let wrap = |(buffer, len): &(wgpu::Buffer, usize)| {
            gpu.wrap::<u8>(buffer.clone(), 256, *len).unwrap()
        };
        let tensors: Vec<_> = inputs.iter().map(wrap).collect();
        let mut targets: Vec<_> = outputs.iter().map(wrap).collect();
        let plan = linear::plan::forward(&shape, &options, states, gpu.caps()).unwrap();
        let mut pass = gpu.pass("guards");
        let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
        let mut outs: Vec<_> = targets.iter_mut().map(|tensor| tensor.view_mut()).collect();
        pass.run_checked(&plan, &views, &mut outs, false).unwrap();
        pass.submit().unwrap();
        for (n, (buffer, len)) in inputs.into_iter().chain(outputs).enumerate() {
            let size = buffer.size() as usize;
            let all = gpu.wrap::<u8>(buffer, 0, size).unwrap().download().unwrap();
            let (before, rest) = all.split_at(256);
            let (inside, after) = rest.split_at(len.next_multiple_of(4));
            let intact = before.iter().chain(after).all(|byte| *byte == 0xa5);
            assert!(intact, "tensor {n}: {options:?} {packed:?}");
            let unwritten = inside.chunks(4).any(|word| word == [0xff; 4]);
            assert!(
                !unwritten,
                "tensor {n} left unwritten: {options:?} {packed:?}"
            );
        }
    }
}

#[test]
fn non_finite_values_stay_in_their_head_and_subnormals_do_no_harm() {
    let gpu = gpu();
    let run = |form: Form, poison: Option<f32>| {
        let shape = shape(100, 3, 12, 8);
        let (mut k, mut v) = (values(shape.key_len()), values(shape.value_len()));
        // Token 70 of head 1.
        if let Some(poison) = poison {
            k[(70 * 3 + 1) * 12] = poison;
            v[(70 * 3 + 1) * 8 + 5] = poison;
        }
        let [q, k, v] =
            [&values(shape.key_len()), &k, &v].map(|values| gpu.upload(values).unwrap());
        let mut o = gpu.zeros(shape.output_len()).unwrap();
        let inputs = Inputs::new(&q, &k, &v);
        linear::forward(
            gpu,
            &shape,
            &Options {
                form,
                ..Options::plain()
            },
            &inputs,
            Outputs::new(&mut o),
        )
        .unwrap();
        o.download().unwrap()
    };
    for form in [Form::Auto, Form::Fused, Form::Segments(2)] {
        let clean = run(form, None);
        for poison in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
            let dirty = run(form, Some(poison));
            for (row, (clean, dirty)) in clean.chunks(8).zip(dirty.chunks(8)).enumerate() {
                let (t, h) = (row / 3, row % 3);
                // Within a chunk of 64 a later NaN may reach earlier tokens of its own head: 0 times NaN is NaN.
                if h != 1 || t < 64 {
                    assert_eq!(clean, dirty, "{form:?} {poison} at {t}, head {h}");
                }
            }
            if poison.is_subnormal() {
                assert!(dirty.iter().all(|x| x.is_finite()), "{form:?}");
            }
        }
    }
}

#[test]
fn more_groups_than_a_dimension_holds_are_folded() {
    let gpu = gpu();
    for form in sample([Form::Recurrent, Form::Fused]) {
        let shape = shape(1, 70_000, 4, 4);
        let data = values(shape.key_len() + 2);
        let plan = linear::plan::forward(
            &shape,
            &Options {
                form,
                ..Options::plain()
            },
            States::default(),
            gpu.caps(),
        )
        .unwrap();
        let most = plan.steps.iter().map(|step| step.groups).max().unwrap();
        let o = forward(
            gpu,
            &shape,
            &Options {
                form,
                ..Options::plain()
            },
            &data,
        )
        .unwrap();
        for h in (0..70_000)
            .step_by(997)
            .chain([65_534, 65_535, 65_536, 69_999])
        {
            let dot: f64 = (0..4)
                .map(|i| f64::from(data[h * 4 + i]) * f64::from(data[h * 4 + i + 1]))
                .sum();
            let exact = dot * f64::from(data[h * 4 + 2]);
            assert!(
                (f64::from(o[h * 4]) - exact).abs() < 1e-5,
                "{form:?}: head {h} of groups {most}"
            );
        }
    }
}

#[test]
fn groups_to_spare_in_a_folded_grid_do_not_repeat_the_last_step() {
    let gpu = gpu();
    // 65,537 groups fold into two rows of 32,769, one group too many.
    let shape = Shape {
        batch: 65_537,
        ..shape(1, 1, 4, 4)
    };
    let ones = gpu.upload(&vec![1.0f32; shape.key_len()]).unwrap();
    let (mut state, mut o) = (
        gpu.zeros(shape.state_len()).unwrap(),
        gpu.zeros(shape.output_len()).unwrap(),
    );
    let inputs = Inputs::new(&ones, &ones, &ones);
    linear::step(
        gpu,
        &shape,
        &Options::plain(),
        &inputs,
        &mut state,
        None,
        &mut o,
    )
    .unwrap();
    assert!(state.download().unwrap().iter().all(|x| *x == 1.0));
    assert!(o.download().unwrap().iter().all(|x| *x == 4.0));
}

#[test]
fn plans_for_small_bindings_give_the_same_results() {
    let gpu = gpu();
    for (n, layout) in [Layout::Bthd, Layout::Bhtd].into_iter().enumerate() {
        let types = [(Dtype::F32, 64, 32), (Dtype::F16, 33, 17)];
        for (m, (dtype, key, value)) in by_turns(types.into_iter().enumerate(), n) {
            let shape = Shape {
                batch: 2,
                layout,
                dtype,
                ..shape(700, 6, key, value)
            };
            let small = Caps {
                binding_bytes: 128 << 10,
                ..gpu.caps().clone()
            };
            for form in by_turns([Form::Fused, Form::Segments(3), Form::Recurrent], n + m) {
                let options = Options {
                    form,
                    ..Options::plain()
                };
                let states = States {
                    last: true,
                    ..States::default()
                };
                let array = |len: usize| {
                    Array::rounded(
                        dtype,
                        &[len],
                        &values(len)
                            .iter()
                            .map(|x| f64::from(*x))
                            .collect::<Vec<_>>(),
                    )
                };
                let inputs = [
                    array(shape.key_len()),
                    array(shape.key_len()),
                    array(shape.value_len()),
                ];
                let tensors: Vec<_> = inputs
                    .iter()
                    .map(|array| gpu.upload(&array.bytes).unwrap())
                    .collect();
                let results: Vec<_> = [gpu.caps(), &small]
                    .into_iter()
                    .map(|caps| {
                        let plan = linear::plan::forward(&shape, &options, states, caps).unwrap();
                        let mut o = gpu
                            .zeros::<u8>(shape.value_len() * dtype.bytes() as usize)
                            .unwrap();
                        let mut last = gpu.zeros::<f32>(shape.state_len()).unwrap();
                        let mut pass = gpu.pass("small bindings");
                        let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
                        pass.run(&plan, &views, &mut [o.view_mut(), last.view_mut()])
                            .unwrap();
                        pass.submit().unwrap();
                        (
                            plan.steps.len(),
                            o.download().unwrap(),
                            last.download().unwrap(),
                        )
                    })
                    .collect();
                let [(few, o, last), (many, o_small, last_small)] = results.try_into().unwrap();
                assert!(many > few, "{layout:?} {form:?}: {many} steps");
                let wide = |bytes: Vec<u8>| {
                    Array {
                        dtype,
                        shape: vec![shape.value_len()],
                        bytes,
                    }
                    .values()
                };
                let error = |a: Vec<f64>, b: Vec<f64>| {
                    let norm: f64 = a.iter().map(|x| x * x).sum();
                    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / norm).sqrt()
                };
                let bound = if dtype == Dtype::F16 { 1e-3 } else { 5e-6 };
                assert!(
                    error(wide(o), wide(o_small)) <= bound,
                    "{layout:?} {form:?}"
                );
                let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
                assert!(
                    error(wide(last), wide(last_small)) <= 5e-6,
                    "{layout:?} {form:?}"
                );
            }
        }
    }
}

#[test]
fn tensors_beyond_a_binding_work() {
    let gpu = gpu();
    let shape = shape(17_000, 32, 64, 4);
    assert!(shape.key_len() * 4 > 128 << 20);
    let data = values(shape.key_len() + 2);
    let o = forward(gpu, &shape, &Options::plain(), &data).unwrap();
    // Every head against the recurrence in f64, at the last token.
    for h in [0, 13, 31] {
        let row =
            |n: usize, t: usize, w: usize, i: usize| f64::from(data[n + (t * 32 + h) * w + i]);
        let mut state = [0.0; 64];
        for t in 0..17_000 {
            for (i, s) in state.iter_mut().enumerate() {
                *s += row(1, t, 64, i) * row(2, t, 4, 0);
            }
        }
        let exact: f64 = state
            .iter()
            .enumerate()
            .map(|(i, s)| s * row(0, 16_999, 64, i))
            .sum();
        let scale: f64 = state
            .iter()
            .enumerate()
            .map(|(i, s)| (s * row(0, 16_999, 64, i)).abs())
            .sum();
        let got = f64::from(o[(16_999 * 32 + h) * 4]);
        assert!(
            (got - exact).abs() <= 1e-4 * scale,
            "head {h}: {got} for {exact}"
        );
    }
}

#[test]
fn eight_threads_compile_one_kernel_once() {
    let gpu = open();
    let (shape, options) = (shape(40, 2, 8, 8), Options::plain());
    let data = values(shape.key_len() + 2);
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| forward(&gpu, &shape, &options, &data).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(gpu.pipelines(), 1);
}

#[test]
fn warm_calls_compile_and_allocate_nothing() {
    let gpu = open();
    let (shape, options) = (
        shape(300, 2, 16, 16),
        Options {
            form: Form::Segments(3),
            ..Options::plain()
        },
    );
    let inputs = gpu.upload(&values(shape.key_len())).unwrap();
    let mut o = gpu.zeros(shape.output_len()).unwrap();
    let mut call = |tokens: usize| {
        let shape = Shape {
            tokens,
            heads: 600 / tokens,
            kv_heads: 600 / tokens,
            ..shape
        };
        let inputs = Inputs::new(&inputs, &inputs, &inputs);
        linear::forward(&gpu, &shape, &options, &inputs, Outputs::new(&mut o)).unwrap();
        gpu.wait().unwrap();
    };
    call(300);
    let warm = (gpu.pipelines(), gpu.pool_allocations());
    (0..3).for_each(|_| call(300));
    assert_eq!((gpu.pipelines(), gpu.pool_allocations()), warm);
    // Other lengths compile nothing either.
    [150, 200, 600].into_iter().for_each(&mut call);
    assert_eq!(gpu.pipelines(), warm.0);
}

#[test]
fn a_destroyed_device_is_reported_by_every_call() {
    let gpu = open();
    let data = values(1000);
    let tensor = gpu.upload(&data).unwrap();
    gpu.device().destroy();
    let lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    lost(gpu.wait().unwrap_err());
    lost(tensor.download().unwrap_err());
    lost(gpu.upload(&data).unwrap_err());
}

#[test]
fn a_loss_reported_by_the_caller_is_reported_by_every_call() {
    let gpu = open();
    let shared = Gpu::from_wgpu(gpu.device(), gpu.queue(), None).unwrap();
    let tensor = shared.upload(&values(1000)).unwrap();
    shared.mark_lost("a test says so");
    let error = tensor.download().unwrap_err();
    assert_eq!(
        error,
        Error::DeviceLost {
            reason: "a test says so".into()
        }
    );
    assert!(matches!(
        shared.pass("after").submit(),
        Err(Error::DeviceLost { .. })
    ));
    assert!(gpu.wait().is_ok());
}

#[test]
fn waits_end_after_their_time_limit() {
    let select = Select {
        timeout: Duration::from_millis(1),
        ..Select::from_env()
    };
    let gpu = Gpu::open(&select).unwrap();
    let shape = shape(4000, 8, 64, 64);
    let data = gpu.upload(&values(shape.key_len())).unwrap();
    let mut o = gpu.zeros(shape.output_len()).unwrap();
    let inputs = Inputs::new(&data, &data, &data);
    let mut pass = gpu.pass("slow");
    // Work for a second or more: the host may itself be kept waiting for a core.
    for _ in 0..40 {
        linear::record(
            &mut pass,
            &shape,
            &Options::plain(),
            &inputs,
            Outputs::new(&mut o),
        )
        .unwrap();
    }
    let after = Duration::from_millis(1);
    // Not by a download: its own submission waits for the work before it on some drivers, and finds it done.
    let done = pass.submit().unwrap();
    let started = Instant::now();
    let result = done.wait(after).map(drop);
    assert_eq!(result, Err(Error::Timeout { after }));
    assert!(started.elapsed() < Duration::from_secs(5));
    // The device itself is fine.
    gpu.device()
        .poll(wgpu::PollType::wait_indefinitely())
        .unwrap();
}

#[test]
fn callers_mistakes_are_typed_and_name_the_argument() {
    let gpu = gpu();
    let data = values(4096);
    let expect = |result: Result<Vec<f32>, Error>, words: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "\"{message}\" lacks \"{words}\"");
    };
    expect(
        forward(gpu, &shape(4, 1, 0, 4), &Options::plain(), &data),
        "key width must be from 1 to 512, got 0",
    );
    expect(
        forward(gpu, &shape(4, 1, 4, 513), &Options::plain(), &data),
        "value width must be from 1 to 512, got 513",
    );
    expect(
        forward(
            gpu,
            &Shape {
                dtype: Dtype::F16,
                ..shape(4, 1, 4, 4)
            },
            &Options::plain(),
            &data,
        ),
        "shape.dtype",
    );
    expect(
        forward(
            gpu,
            &shape(4, 1, 4, 4),
            &Options {
                scale: f32::NAN,
                ..Options::plain()
            },
            &data,
        ),
        "scale must be finite",
    );
    expect(
        forward(gpu, &shape(4, 1, 4, 4), &Options::lightning(), &data),
        "log_decay must be given",
    );
    let big = Shape {
        batch: usize::MAX,
        ..shape(usize::MAX, 3, 4, 4)
    };
    assert!(matches!(
        linear::plan::forward(&big, &Options::plain(), States::default(), gpu.caps()),
        Err(Error::Argument { .. })
    ));

    let tensor = gpu.upload(&data).unwrap();
    let mut o = gpu.zeros(16).unwrap();
    let inputs = Inputs::new(&tensor, &tensor, &tensor);
    let error = linear::forward(
        gpu,
        &shape(4, 1, 4, 4),
        &Options::plain(),
        &inputs,
        Outputs::new(&mut o),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("q must be 16 elements for this shape, got 4096"),
        "{error}"
    );
    assert!(matches!(
        gpu.zeros::<f32>(usize::MAX),
        Err(Error::Limit { .. })
    ));
    assert!(matches!(
        gpu.zeros::<f32>(1 << 40),
        Err(Error::Limit { .. })
    ));

    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 64,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    assert!(
        gpu.wrap::<f32>(buffer, 0, 16)
            .unwrap_err()
            .to_string()
            .contains("STORAGE")
    );
    let buffer = tensor.into_buffer();
    assert!(
        gpu.wrap::<f32>(buffer.clone(), 3, 16)
            .unwrap_err()
            .to_string()
            .contains("multiple of")
    );
    assert!(
        gpu.wrap::<f32>(buffer, 0, 1 << 20)
            .unwrap_err()
            .to_string()
            .contains("bytes hold")
    );
}

#[test]
fn a_scratch_budget_is_kept() {
    let select = Select {
        scratch_bytes: 1000,
        ..Select::from_env()
    };
    let gpu = Gpu::open(&select).unwrap();
    let error = forward(
        &gpu,
        &shape(100, 4, 16, 16),
        &Options::plain(),
        &values(6402),
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Limit {
                needed: 4096,
                available: 1000,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn one_device_serves_two_handles_and_a_callers_own_pass() {
    let own = open();
    let shared = Gpu::from_wgpu(own.device(), own.queue(), None).unwrap();
    let shape = shape(20, 2, 4, 4);
    let data = values(shape.key_len() + 2);
    let expected = forward(&own, &shape, &Options::plain(), &data).unwrap();
    assert_eq!(
        forward(&shared, &shape, &Options::plain(), &data).unwrap(),
        expected
    );

    // The same operator between commands of the caller's, in their encoder, result kept on the device.
    let [q, k, v] = [0, 1, 2].map(|n| shared.upload(&data[n..n + shape.key_len()]).unwrap());
    let mut o = shared.zeros(shape.output_len()).unwrap();
    let mut pass = shared.pass("theirs");
    let inputs = Inputs::new(&q, &k, &v);
    linear::record(
        &mut pass,
        &shape,
        &Options::plain(),
        &inputs,
        Outputs::new(&mut o),
    )
    .unwrap();
    let mut encoder = own.device().create_command_encoder(&Default::default());
    encoder.clear_buffer(o.buffer().0, 0, None);
    pass.encode(&mut encoder.begin_compute_pass(&Default::default()));
    let copy = own.zeros::<f32>(shape.output_len()).unwrap();
    encoder.copy_buffer_to_buffer(
        o.buffer().0,
        0,
        copy.buffer().0,
        0,
        Some(4 * shape.value_len() as u64),
    );
    own.queue().submit([encoder.finish()]);
    assert_eq!(copy.download().unwrap(), expected);
    assert_eq!(pollster::block_on(copy.download_async()).unwrap(), expected);
}

#[test]
fn devices_without_immediates_are_refused_in_words() {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
            .unwrap();
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let error = Gpu::from_wgpu(&device, &queue, Some(&adapter)).unwrap_err();
    assert!(error.to_string().contains("IMMEDIATES"), "{error}");
}

#[test]
fn missing_adapters_are_listed_with_reasons() {
    let select = Select {
        adapter_name: Some("no such adapter".into()),
        ..Select::from_env()
    };
    let error = Gpu::open(&select).unwrap_err();
    assert!(
        matches!(error, Error::NoAdapter { .. }) && error.to_string().contains("has another name"),
        "{error}"
    );
}

#[test]
fn half_written_files_are_never_left() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/out.safetensors");
    let error = subquad::case::write_whole(&missing, b"data").unwrap_err();
    assert!(matches!(error, Failure::File { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_plan_of_a_case_is_bit_equal_over_reruns() {
    let gpu = gpu();
    let mut seen = HashSet::new();
    for (n, op) in sample(subquad::case::ops().iter().enumerate()) {
        for case in by_turns((op.builtin)().iter().take(6), n) {
            let problem = case.bind().unwrap();
            for plan in problem.plans(gpu.caps(), thorough()).unwrap() {
                let first = run(gpu, problem.as_ref(), &plan, false).unwrap();
                assert_eq!(
                    first,
                    run(gpu, problem.as_ref(), &plan, false).unwrap(),
                    "{} {}",
                    case.name,
                    plan.label
                );
                seen.insert(plan.label);
            }
        }
    }
    assert!(seen.len() > 3);
}
