//! Each command of the program on small input: exit status, what it prints, what it writes.

#[path = "common/effort.rs"]
mod effort;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Map, Value};
use subquad::{
    case::{Array, Case},
    gpu::Dtype,
};

use effort::thorough;

fn subquad(arguments: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_subquad")).args(arguments))
}

/// The program on a machine without adapters: no Vulkan driver is found.
fn without_adapter(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_subquad"));
    command
        .args(arguments)
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json");
    run(command.env("WGPU_BACKEND", "vulkan"))
}

/// A command on everything where everything is run, otherwise on what the filter leaves.
fn some_of<'a>(command: &[&'a str], filter: &'a str) -> Vec<&'a str> {
    match thorough() {
        true => command.to_vec(),
        false => [command, &["--filter", filter]].concat(),
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(!err(&output).contains("panicked"), "{}", err(&output));
    output
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs the program and expects one sentence on standard error and status 2.
fn refused(arguments: &[&str], words: &str) {
    let output = subquad(arguments);
    let message = err(&output);
    let line = message
        .lines()
        .find(|line| line.starts_with("subquad: "))
        .unwrap_or_default();
    assert!(
        line.contains(words),
        "{arguments:?} said \"{message}\", expected \"{words}\""
    );
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(!message.contains("backtrace"), "{message}");
}

fn write_case(path: &Path, params: &str, change: impl FnOnce(&mut BTreeMap<String, Array>)) {
    let values: Vec<f64> = (0..2 * 10 * 3 * 4)
        .map(|n| ((n * 37) % 17) as f64 / 8.0 - 1.0)
        .collect();
    let array = |dtype| Array::rounded(dtype, &[2, 10, 3, 4], &values);
    let mut tensors =
        BTreeMap::from(["in.q", "in.k", "in.v"].map(|name| (name.to_owned(), array(Dtype::F32))));
    tensors.insert("in.log_decay".into(), Array::f32(&[3], &[-0.1, -0.5, -8.0]));
    change(&mut tensors);
    let metadata = BTreeMap::from(
        [("op", "linear_attention"), ("params", params)]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    Case::write_tensors(path, &tensors, metadata).unwrap();
}

const HEAD: &str = r#"{"layout": "bthd", "decay": "head", "scale": 0.5, "causal": true}"#;

#[test]
fn info_lists_an_adapter_in_words_and_json() {
    let words = subquad(&["info"]);
    assert!(
        words.status.success() && out(&words).contains("workgroup"),
        "{}",
        out(&words)
    );
    let json: Value = serde_json::from_slice(&subquad(&["info", "--json"]).stdout).unwrap();
    let adapter = &json["adapters"][0];
    assert!(
        adapter["name"].is_string()
            && adapter["usable"] == true
            && adapter["binding_bytes"].is_u64(),
        "{adapter:#}"
    );
}

#[test]
fn gradients_are_written_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let change = |tensors: &mut BTreeMap<String, Array>| {
        let q = tensors["in.q"].clone();
        tensors.insert("grad_out.o".into(), q);
        tensors.insert("in.beta".into(), Array::f32(&[2, 10, 3], &[0.5; 60]));
    };
    let (input, output, both) = (path("in"), path("out"), path("both"));
    write_case(&input, HEAD, change);
    let on = |device: &str, command: &[&str]| subquad(&[&["--device", device], command].concat());
    let applied = on("cpu", &["apply", text(&input), "-o", text(&output)]);
    assert!(applied.status.success(), "{}", out(&applied));
    let written = Case::read(&output, None, &Map::new()).unwrap();
    let names: Vec<_> = written.expected_grads.keys().map(String::as_str).collect();
    assert_eq!(names, ["beta", "k", "log_decay", "q", "v"]);

    // Gradients are judged, and one that is missing or wrong is a miss.
    let judged = |wrong: &[(&str, Array)]| {
        write_case(&both, HEAD, |tensors| {
            change(tensors);
            for (name, array) in &written.expected_grads {
                tensors.insert(format!("grad.{name}"), array.clone());
            }
            for (name, array) in wrong {
                tensors.insert((*name).into(), array.clone());
            }
        });
        let checked = on("cpu", &["check", text(&both)]);
        (checked.status.code(), out(&checked))
    };
    let (status, words) = judged(&[]);
    assert!(status == Some(0) && words.contains("grad.beta"), "{words}");
    let (status, words) = judged(&[("grad.beta", Array::f32(&[2, 10, 3], &[9.0; 60]))]);
    assert!(status == Some(1) && words.contains("MISS"), "{words}");
    let (status, words) = judged(&[("grad.fm_bias", Array::f32(&[4], &[0.0; 4]))]);
    assert!(
        status == Some(1) && words.contains("grad.fm_bias missing"),
        "{words}"
    );

    // On a device as well.
    let checked = subquad(&["check", text(&both)]);
    let words = out(&checked);
    assert!(
        !checked.status.success() && words.contains("grad.fm_bias missing"),
        "{words}"
    );
    let again = path("again");
    let applied = subquad(&["apply", text(&input), "-o", text(&again)]);
    assert!(
        applied.status.success(),
        "{}{}",
        out(&applied),
        err(&applied)
    );
    let written = Case::read(&again, None, &Map::new()).unwrap();
    assert_eq!(written.expected_grads.len(), 5);
}

#[test]
fn apply_writes_outputs_that_check_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (
        folder.path().join("in.safetensors"),
        folder.path().join("out.safetensors"),
    );
    write_case(&input, HEAD, |_| ());
    let applied = subquad(&["apply", text(&input), "--output", text(&output)]);
    let words = out(&applied);
    assert!(applied.status.success(), "{words}{}", err(&applied));
    for word in [
        "shape",
        "b 2",
        "GFLOP/s",
        "GB/s",
        "time",
        "relative to the CPU reference",
    ] {
        assert!(words.contains(word), "{words} lacks {word}");
    }
    let written = Case::read(&output, None, &Map::new()).unwrap();
    assert_eq!(
        (
            written.expected["o"].shape.as_slice(),
            written.expected["final_state"].shape.as_slice()
        ),
        (&[2, 10, 3, 4][..], &[2, 3, 4, 4][..])
    );

    // The CPU reference agrees, and the written outputs pass as expected values.
    let by_cpu = folder.path().join("cpu.safetensors");
    assert!(
        subquad(&[
            "apply",
            text(&input),
            "-o",
            text(&by_cpu),
            "--device",
            "cpu"
        ])
        .status
        .success()
    );
    let exact = Case::read(&by_cpu, None, &Map::new()).unwrap();
    let difference = |name: &str| {
        let (a, b) = (
            written.expected[name].values(),
            exact.expected[name].values(),
        );
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
    };
    assert!(difference("o") < 1e-5 && difference("final_state") < 1e-5);
    let both = folder.path().join("both.safetensors");
    write_case(&both, HEAD, |tensors| {
        tensors.extend(
            written
                .expected
                .iter()
                .map(|(name, array)| (format!("out.{name}"), array.clone())),
        )
    });
    let checked = subquad(&["check", text(&both)]);
    assert!(
        checked.status.success() && out(&checked).contains("1 passed, 0 failed, 0 skipped"),
        "{}",
        out(&checked)
    );
    let wrong = folder.path().join("wrong.safetensors");
    write_case(&wrong, HEAD, |tensors| {
        tensors.insert("out.o".into(), Array::f32(&[2, 10, 3, 4], &[0.25; 240]));
    });
    let missed = subquad(&["check", "--quick", text(&wrong)]);
    assert_eq!(missed.status.code(), Some(1));
    assert!(
        out(&missed).contains("MISS  wrong: o")
            && out(&missed).contains("0 passed, 1 failed, 0 skipped"),
        "{}",
        out(&missed)
    );
}

#[test]
fn apply_runs_any_file_with_q_k_and_v() {
    let folder = tempfile::tempdir().unwrap();
    let layer =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/attention_layer.safetensors");
    let output = folder.path().join("out.safetensors");
    let decays: Vec<String> = (1..=12)
        .map(|n| format!("-{}", 0.5 / f64::from(n)))
        .collect();
    let decays = format!("log_decay=[{}]", decays.join(","));
    let arguments = [
        "apply",
        text(&layer),
        "-o",
        text(&output),
        "--op",
        "linear_attention",
        "--param",
        "layout=bhtd",
        "--param",
        "scale=1.0",
        "--param",
        &decays,
    ];
    let applied = subquad(&arguments);
    assert!(
        applied.status.success(),
        "{}{}",
        out(&applied),
        err(&applied)
    );
    assert!(
        out(&applied).contains("h 12, t 512, k 32, v 32, f16"),
        "{}",
        out(&applied)
    );
    assert_eq!(
        Case::read(&output, None, &Map::new()).unwrap().expected["o"].dtype,
        Dtype::F16
    );
}

#[test]
fn check_passes_its_built_in_cases() {
    let output = subquad(&some_of(
        &["check", "--quick", "--device", "cpu"],
        "hamming",
    ));
    assert!(
        output.status.success() && out(&output).contains(" passed, 0 failed, 0 skipped"),
        "{}",
        out(&output)
    );
}

#[test]
fn bad_input_ends_in_a_sentence_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(format!("{name}.safetensors"));
    let output = path("out");
    let apply = |input: &Path, words: &str| {
        refused(&["apply", text(input), "-o", text(&output)], words);
        assert!(!output.exists());
    };
    apply(&path("missing"), "No such file");
    std::fs::write(path("noise"), b"this is no tensor file").unwrap();
    apply(&path("noise"), "is not a safetensors file");
    let cases: [(&str, &str, &str); 5] = [
        (
            "nan",
            r#"{"layout": "bthd", "decay": "head", "scale": "NaN"}"#,
            "scale must be a finite number",
        ),
        (
            "layout",
            r#"{"layout": "tbhd", "decay": "head", "scale": 1.0}"#,
            "layout must be bthd or bhtd",
        ),
        (
            "decay",
            r#"{"layout": "bthd", "decay": "sometimes", "scale": 1.0}"#,
            "decay must be none, head, token or channel",
        ),
        (
            "token",
            r#"{"layout": "bthd", "decay": "token", "scale": 1.0}"#,
            "log_decay must be f32 [2, 10, 3]",
        ),
        ("json", r#"{"layout": "#, "`params` is not a JSON object"),
    ];
    for (name, params, words) in cases {
        write_case(&path(name), params, |_| ());
        apply(&path(name), words);
    }
    let changes: [(&str, Array, &str); 4] = [
        (
            "in.v",
            Array::f32(&[2, 9, 3, 4], &[0.0; 216]),
            "tensor v must be",
        ),
        (
            "in.k",
            Array::rounded(Dtype::F16, &[2, 10, 3, 4], &[0.0; 240]),
            "must have one type",
        ),
        (
            "in.log_decay",
            Array::f32(&[2], &[-1.0; 2]),
            "log_decay must be f32 [3]",
        ),
        (
            "in.log_decay",
            Array::f32(&[3], &[0.5; 3]),
            "log_decay must be at most 0",
        ),
    ];
    for (n, (name, array, words)) in changes.into_iter().enumerate() {
        let file = path(&format!("change{n}"));
        write_case(&file, HEAD, |tensors| {
            tensors.insert(name.into(), array);
        });
        apply(&file, words);
    }
    write_case(&path("good"), HEAD, |_| ());
    let good = path("good");
    refused(
        &[
            "apply",
            text(&good),
            "-o",
            text(&output),
            "--op",
            "cubic_attention",
        ],
        "the operator cubic_attention is not available, known are: linear_attention",
    );
    refused(
        &["apply", text(&good), "-o", "/nonexistent/out.safetensors"],
        "/nonexistent/out.safetensors",
    );
    refused(
        &[
            "apply",
            text(&good),
            "-o",
            text(&output),
            "--param",
            "scale",
        ],
        "must be key=value",
    );
    refused(
        &["info", "--timeout=-1"],
        "--timeout must be a positive number",
    );
    refused(
        &["info", "--backend", "glide"],
        "--backend must be vulkan, metal or dx12",
    );
    refused(
        &["check", "--device", "gpu", "--adapter", "no such adapter"],
        "has another name",
    );
    refused(
        &[
            "check",
            text(folder.path()).trim_end_matches('/'),
            "/nonexistent",
        ],
        "/nonexistent",
    );
    assert_eq!(subquad(&["frobnicate"]).status.code(), Some(2));
}

#[test]
fn without_an_adapter_the_reference_computes_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (
        folder.path().join("in.safetensors"),
        folder.path().join("out.safetensors"),
    );
    write_case(&input, HEAD, |_| ());
    let applied = without_adapter(&["apply", text(&input), "-o", text(&output)]);
    assert!(
        applied.status.success() && err(&applied).contains("computing with the CPU reference"),
        "{}",
        err(&applied)
    );
    assert!(output.exists());
    let checked = without_adapter(&some_of(&["check", "--quick"], "lightning"));
    assert!(
        checked.status.success() && err(&checked).contains("computing with the CPU reference"),
        "{}",
        err(&checked)
    );
    let report = folder.path().join("demo.html");
    let demo = without_adapter(&["demo", "--quick", "--html", text(&report)]);
    assert!(
        demo.status.success() && report.exists(),
        "{}{}",
        out(&demo),
        err(&demo)
    );
    let required = without_adapter(&["check", "--device", "gpu"]);
    assert_eq!(required.status.code(), Some(2));
}

#[test]
fn bench_writes_the_agreed_json_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (
        folder.path().join("bench.json"),
        folder.path().join("bench.html"),
    );
    let output = subquad(&[
        "bench",
        "--quick",
        "--filter",
        "lightning_step_h8",
        "--json",
        text(&json),
        "--html",
        text(&html),
    ]);
    // A debug build on a busy machine may measure a roof badly: the exit status is not the point here.
    assert!(json.exists(), "{}{}", out(&output), err(&output));
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(results["adapter"]["name"].is_string());
    assert!(
        results["roofs"]["copy_gb_s"].as_f64().unwrap() > 0.0
            && results["roofs"]["fma_gflop_s"].as_f64().unwrap() > 0.0
    );
    let case = &results["cases"][0];
    for key in ["op", "name", "dtype", "variant"] {
        assert!(case[key].is_string(), "{case:#} lacks {key}");
    }
    for key in [
        "median_ms",
        "min_ms",
        "max_ms",
        "gflop_s",
        "gb_s",
        "share_of_roof",
    ] {
        assert!(
            case[key].as_f64().is_some_and(|x| x > 0.0),
            "{case:#} lacks {key}"
        );
    }
    for key in ["b", "h", "t", "k", "v"] {
        assert!(case["shape"][key].is_u64(), "{case:#} lacks {key}");
    }
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && !page.contains("http-equiv") && !page.contains("src=\"http"));
}

#[test]
fn demo_runs_the_main_job_and_says_where_its_report_is() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("demo.html");
    let demo = subquad(&["demo", "--quick", "--html", text(&report)]);
    assert!(
        demo.status.success() && out(&demo).contains(text(&report)),
        "{}{}",
        out(&demo),
        err(&demo)
    );
    assert!(std::fs::read_to_string(&report).unwrap().contains("<svg"));
}

#[test]
fn shaders_are_written_in_four_languages() {
    let folder = tempfile::tempdir().unwrap();
    let output = subquad(&some_of(
        &["shaders", "--out", text(folder.path())],
        "matrices",
    ));
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let count = |extension: &str| {
        names
            .iter()
            .filter(|name| name.ends_with(extension))
            .count()
    };
    let index = std::fs::read_to_string(folder.path().join("index.txt")).unwrap();
    // Kernels on matrix units, which DirectX 12 has not, and Metal by squares of 8 only.
    let native = |part: &str| {
        let lines = index.lines().filter(|line| line.contains(" native "));
        lines.filter(|line| line.contains(part)).count()
    };
    let all = count(".wgsl");
    assert!(all > 20 && native(" SIDE=16 ") > 0 && native(" SIDE=8 ") > 0);
    assert_eq!(index.lines().count(), all);
    assert_eq!(count(".spv"), all);
    assert_eq!(count(".metal"), all - native(" SIDE=16 "));
    assert_eq!(count(".hlsl"), all - native(""));
}

/// Embeddings that a formula makes: rows of a query repeat one of the database but for a little.
fn embeddings(rows: usize, shift: usize) -> Vec<f32> {
    let value =
        |n: usize, d: usize| ((n * 7919 + d * 104_729 + n * d * 31) % 211) as f32 / 105.0 - 1.0;
    (0..rows * 48)
        .map(|at| value(at / 48 + shift, at % 48) + if shift > 0 { 0.01 } else { 0.0 })
        .collect()
}

fn npy(path: &Path, rows: usize, values: &[f32]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 48), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

/// `distance` and `index` that `search` wrote.
fn neighbours(path: &Path) -> [Array; 2] {
    let mut case = Case::read(path, Some("search"), &Map::new()).unwrap();
    ["distance", "index"].map(|name| case.inputs.remove(name).unwrap())
}

#[test]
fn search_finds_the_same_on_the_device_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (database, queries) = (embeddings(300, 0), embeddings(20, 5));
    let both = BTreeMap::from([
        ("database".to_owned(), Array::f32(&[300, 48], &database)),
        (
            "queries".to_owned(),
            Array::rounded(
                Dtype::F32,
                &[20, 48],
                &queries.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
            ),
        ),
    ]);
    Case::write_tensors(&path("both.safetensors"), &both, BTreeMap::new()).unwrap();
    npy(&path("database.npy"), 300, &database);
    npy(&path("queries.npy"), 20, &queries);
    let found = |name: &str, arguments: &[&str]| {
        let to = path(name);
        let all = [
            &["search"][..],
            arguments,
            &["-o", text(&to), "-k", "3", "--threshold", "mean"],
        ]
        .concat();
        let output = subquad(&all);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        (neighbours(&to), out(&output))
    };
    let (both, database, queries) = (
        path("both.safetensors"),
        path("database.npy"),
        path("queries.npy"),
    );
    let (device, words) = found("a.safetensors", &[text(&both), "--recall"]);
    assert!(
        words.contains("recall@3") && words.contains("20 queries, 300 codes of 48 bits"),
        "{words}"
    );
    let (cpu, _) = found("b.safetensors", &["--device", "cpu", text(&both)]);
    let (from_npy, _) = found(
        "c.safetensors",
        &[text(&database), "--queries", text(&queries)],
    );
    assert!(device == cpu && device == from_npy);
    assert_eq!(device[1].shape, [20, 3]);
    // A query is item n + 5 but for a hundredth.
    let nearest: Vec<f64> = device[1].values().into_iter().step_by(3).collect();
    assert_eq!(nearest, (5..25).map(f64::from).collect::<Vec<_>>());
    let (itself, _) = found("d.safetensors", &[text(&database), "--exclude-self"]);
    assert_eq!(itself[1].shape, [300, 3]);
    let indices = itself[1].values();
    assert!(
        indices
            .chunks(3)
            .enumerate()
            .all(|(n, row)| !row.contains(&(n as f64)))
    );
    let (ranked, words) = found(
        "e.safetensors",
        &[text(&both), "--rerank", "300", "--recall"],
    );
    assert!(words.contains("1.0000 re-ranked"), "{words}");
    assert_eq!(ranked[1].values()[0], 5.0);
}

#[test]
fn search_says_what_is_wrong_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (database, to) = (path("database.npy"), path("out.safetensors"));
    npy(&database, 10, &embeddings(10, 0));
    std::fs::write(path("wrong.npy"), b"no array").unwrap();
    let mut values = embeddings(10, 0);
    values[50] = f32::NAN;
    npy(&path("nan.npy"), 10, &values);
    let tensors = BTreeMap::from([("x".to_owned(), Array::f32(&[2, 3], &[1.0; 6]))]);
    Case::write_tensors(&path("other.safetensors"), &tensors, BTreeMap::new()).unwrap();
    let (wrong, nan, other) = (
        path("wrong.npy"),
        path("nan.npy"),
        path("other.safetensors"),
    );
    let base = ["search", "-o", text(&to), text(&database)];
    let cases: [(&[&str], &str); 7] = [
        (&[], "--queries must name a file"),
        (&["--exclude-self", "-k", "0"], "--k must be at least 1"),
        (
            &["--exclude-self", "-k", "9", "--rerank", "5"],
            "--rerank must be at least --k, 9, got 5",
        ),
        (
            &["--queries", text(&other)],
            "has no tensor `queries`; name one of x with --queries-tensor",
        ),
        (
            &["--queries", text(&other), "--queries-tensor", "x"],
            "--queries must have the database's 48 dimensions, got 3",
        ),
        (&["--queries", text(&wrong)], "is not an .npy file"),
        (&["--queries", text(&nan)], "must hold finite numbers"),
    ];
    for (arguments, words) in cases {
        refused(&[&base[..], arguments].concat(), words);
        assert!(!to.exists());
    }
    refused(
        &[
            "search",
            "-o",
            "/nonexistent/out.safetensors",
            text(&database),
            "--exclude-self",
        ],
        "cannot be written",
    );
}
