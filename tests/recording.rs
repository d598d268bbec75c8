//! Recordings kept and replayed, pipelines kept on disk, profiles.
#![cfg(feature = "cli")]

use std::fs;

use subquad::{
    Error, Gpu, Select,
    choice::choices,
    gpu::Dtype,
    linear::{self, Inputs, Layout, Options, Outputs, Shape, record_step},
};

fn open(select: Select) -> Gpu {
    Gpu::open(&select).expect("these tests need an adapter, such as Debian's mesa-vulkan-drivers")
}

fn shape(tokens: usize) -> Shape {
    Shape {
        batch: 1,
        tokens,
        heads: 2,
        kv_heads: 2,
        key: 16,
        value: 16,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    }
}

fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|n| ((n * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)
        .collect()
}

#[test]
fn a_replay_does_what_recording_anew_does() {
    let gpu = open(Select::from_env());
    let (one, options) = (shape(1), Options::plain());
    let tokens: Vec<Vec<f32>> = (0..5).map(|n| values(one.key_len(), n)).collect();

    // Two layers, the second reading what the first writes, states in place.
    let anew = {
        let mut states = [0, 1].map(|_| gpu.zeros::<f32>(one.state_len()).unwrap());
        let [mut middle, mut o] = [0, 1].map(|_| gpu.zeros::<f32>(one.output_len()).unwrap());
        let mut outputs = Vec::new();
        for token in &tokens {
            let x = gpu.upload(token).unwrap();
            let [first, second] = &mut states;
            let inputs = Inputs::new(&x, &x, &x);
            linear::step(&gpu, &one, &options, &inputs, first, None, &mut middle).unwrap();
            let inputs = Inputs::new(&middle, &middle, &middle);
            linear::step(&gpu, &one, &options, &inputs, second, None, &mut o).unwrap();
            outputs.push(o.download().unwrap());
        }
        outputs
    };

    let mut x = gpu.zeros::<f32>(one.key_len()).unwrap();
    let [mut first, mut second] = [0, 1].map(|_| gpu.zeros::<f32>(one.state_len()).unwrap());
    let [mut middle, mut o] = [0, 1].map(|_| gpu.zeros::<f32>(one.output_len()).unwrap());
    let mut pass = gpu.pass("two layers");
    let inputs = Inputs::new(&x, &x, &x);
    record_step(
        &mut pass,
        &one,
        &options,
        &inputs,
        &mut first,
        None,
        &mut middle,
    )
    .unwrap();
    let inputs = Inputs::new(&middle, &middle, &middle);
    record_step(
        &mut pass,
        &one,
        &options,
        &inputs,
        &mut second,
        None,
        &mut o,
    )
    .unwrap();
    let replay = pass.replay();
    assert_eq!(replay.dispatches(), 2);
    let before = (gpu.pipelines(), gpu.pool_allocations());
    for (token, expected) in tokens.iter().zip(&anew) {
        x.write(token).unwrap();
        replay.submit().unwrap();
        assert_eq!(&o.download().unwrap(), expected);
    }
    // Read-back needs a buffer once.
    assert!(gpu.pipelines() == before.0 && gpu.pool_allocations() <= before.1 + 1);
    gpu.mark_lost("for a test");
    assert!(matches!(replay.submit(), Err(Error::DeviceLost { .. })));
}

/// A call of several kernels: the three passes.
fn several(gpu: &Gpu) -> Vec<f32> {
    let shape = shape(300);
    let options = Options {
        form: linear::Form::Segments(3),
        ..Options::plain()
    };
    let x = gpu.upload(&values(shape.key_len(), 0)).unwrap();
    let mut o = gpu.zeros(shape.output_len()).unwrap();
    let inputs = Inputs::new(&x, &x, &x);
    linear::forward(gpu, &shape, &options, &inputs, Outputs::new(&mut o)).unwrap();
    o.download().unwrap()
}

#[test]
fn kernels_of_one_plan_compile_side_by_side_and_once() {
    let gpu = open(Select::from_env());
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| several(&gpu))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    let compiled = gpu.pipelines();
    assert!(compiled > 1);
    assert_eq!(several(&gpu), results[0]);
    assert_eq!(gpu.pipelines(), compiled);
}

#[test]
fn pipelines_are_kept_on_disk_and_damaged_files_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("made by the first to save");
    let select = Select {
        pipeline_cache: Some(kept.clone()),
        ..Select::from_env()
    };
    let first = open(select.clone());
    let expected = several(&first);
    let Some(file) = first.save_pipelines().unwrap() else {
        println!("skipped: this backend has no pipeline cache");
        return;
    };
    assert_eq!(
        fs::read_dir(&kept).unwrap().count(),
        1,
        "no temporary is left"
    );
    let whole = fs::read(&file).unwrap();
    let half = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for contents in [whole, half, flipped, Vec::new(), b"not a cache".to_vec()] {
        fs::write(&file, contents).unwrap();
        assert_eq!(several(&open(select.clone())), expected);
    }
    // A folder that cannot be made is an error when saving, not when opening.
    let blocked = Select {
        pipeline_cache: Some(file.join("below a file")),
        ..Select::from_env()
    };
    let gpu = open(blocked);
    assert_eq!(several(&gpu), expected);
    let error = gpu.save_pipelines().unwrap_err();
    assert!(
        matches!(&error, Error::File { .. }) && error.to_string().contains("cannot be written"),
        "{error}"
    );
    assert!(open(Select::from_env()).save_pipelines().unwrap().is_none());
}

#[test]
fn a_profile_changes_plans_and_not_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile");
    let gpu = open(Select::from_env());
    let name = &gpu.caps().name;
    let with = |text: &str| {
        fs::write(&path, text).unwrap();
        Gpu::open(&Select {
            profile: Some(path.clone()),
            ..Select::from_env()
        })
    };
    let usual = several(&gpu);
    for (_, choice) in choices() {
        for value in choice.legal {
            let gpu = with(&format!("# adapter: {name}\n\n{} = {value}\n", choice.name)).unwrap();
            assert_eq!(gpu.caps().choose(choice), *value);
            let found = several(&gpu);
            let sum =
                |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
            let error = sum(&mut found.iter().zip(&usual).map(|(a, b)| a - b));
            let ratio = (error / sum(&mut usual.iter().copied())).sqrt();
            assert!(ratio <= 5e-6, "{} = {value}: {ratio}", choice.name);
        }
    }
    let error = with("# adapter: another\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("profile: adapter must be \"{name}\", the one that is opened, got \"another\"")
    );
    fs::remove_file(&path).unwrap();
    let missing = Select {
        profile: Some(path),
        ..Select::from_env()
    };
    assert!(matches!(Gpu::open(&missing), Err(Error::File { .. })));
}
