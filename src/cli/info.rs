//! `subquad info`: adapters and what they enable.

use serde_json::{Value, json};

use crate::{
    Select,
    case::Failure,
    gpu::{AdapterReport, Caps, adapters},
};

/// Prints every adapter, the preferred one first.
///
/// # Errors
/// None today; the signature is that of every command.
pub fn info(select: &Select, as_json: bool) -> Result<(), Failure> {
    let reports = adapters(select);
    if as_json {
        let list: Vec<Value> = reports.iter().map(report_json).collect();
        say!("{:#}", json!({ "adapters": list }));
        return Ok(());
    }
    if reports.is_empty() {
        say!(
            "no adapter: install a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers); the CPU reference works without"
        );
    }
    for report in &reports {
        say!("{}", text(report));
    }
    Ok(())
}

fn text(report: &AdapterReport) -> String {
    let caps = &report.caps;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let subgroup = caps.subgroup.map_or("none".into(), |(least, most)| {
        if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        }
    });
    let coop: Vec<String> = caps
        .coop
        .iter()
        .map(|c| format!("{}x{}x{} {} -> {}", c.mnk[0], c.mnk[1], c.mnk[2], c.ab, c.c))
        .collect();
    let lines = [
        (
            "class",
            format!("{}, {}, {}", caps.class.name(), caps.backend, caps.driver),
        ),
        (
            "usable",
            report
                .refused
                .clone()
                .map_or("yes".into(), |reason| format!("no: {reason}")),
        ),
        (
            "16-bit floats",
            format!("native {}, packed {}", yes(caps.f16), yes(caps.half)),
        ),
        ("subgroup", subgroup),
        (
            "matrix units",
            match (coop.is_empty(), caps.matrices) {
                (true, _) => "none listed".into(),
                (false, None) => format!("{}; not used", coop.join(", ")),
                (false, Some(units)) => {
                    format!(
                        "{}; squares of {} used if they pass a test",
                        coop.join(", "),
                        units.side
                    )
                }
            },
        ),
        (
            "workgroup",
            format!(
                "{} invocations, {} KiB of memory",
                caps.invocations,
                caps.workgroup_bytes >> 10
            ),
        ),
        (
            "largest",
            format!(
                "binding {}, buffer {}, {} groups a dimension",
                mib(caps.binding_bytes),
                mib(caps.buffer_bytes),
                caps.groups_per_dim
            ),
        ),
        ("timestamps", yes(caps.timestamps).into()),
        ("variants", variants(caps).join(", ")),
    ];
    let body: Vec<String> = lines
        .iter()
        .map(|(name, value)| format!("  {name:<14}{value}"))
        .collect();
    format!("{}\n{}", caps.name, body.join("\n"))
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// The kernel variants that the capabilities enable.
fn variants(caps: &Caps) -> Vec<&'static str> {
    let choices = [
        (true, "f32"),
        (caps.f16, "f16 native"),
        (caps.half && !caps.f16, "f16 packed"),
        (true, "bf16 packed"),
        (caps.workgroup_bytes >= 32 << 10, "chunks of 64"),
        (caps.workgroup_bytes < 32 << 10, "chunks of 32"),
        (
            caps.class == crate::gpu::Class::Cpu && caps.subgroup.is_some(),
            "rows by subgroup shuffles",
        ),
    ];
    choices
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| name)
        .collect()
}

fn report_json(report: &AdapterReport) -> Value {
    let mut value = caps_json(&report.caps);
    if let Value::Object(map) = &mut value {
        map.insert("usable".into(), report.refused.is_none().into());
        map.insert("refused".into(), report.refused.clone().into());
        map.insert("variants".into(), variants(&report.caps).into());
    }
    value
}

/// Capabilities as JSON, for `info` and the header of benchmark results.
pub fn caps_json(caps: &Caps) -> Value {
    let coop: Vec<Value> = caps
        .coop
        .iter()
        .map(|c| json!({ "mnk": c.mnk, "ab": c.ab, "c": c.c }))
        .collect();
    json!({
        "name": caps.name, "backend": caps.backend, "driver": caps.driver, "class": caps.class.name(),
        "f16": caps.f16, "half": caps.half, "subgroup": caps.subgroup, "words64": caps.words64, "cooperative_matrix": coop,
        "matrix_units": caps.matrices.map(|units| units.side), "timestamps": caps.timestamps,
        "workgroup_bytes": caps.workgroup_bytes, "invocations": caps.invocations, "groups_per_dim": caps.groups_per_dim,
        "binding_bytes": caps.binding_bytes, "buffer_bytes": caps.buffer_bytes, "offset_align": caps.offset_align,
        "immediate_bytes": caps.immediate_bytes, "storage_buffers": caps.storage_buffers, "scratch_bytes": caps.scratch_bytes,
    })
}
