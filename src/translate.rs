//! What each graphics API will be given: a kernel validated with just the capabilities it declares, then written as SPIR-V,
//! MSL and HLSL by the writers wgpu uses. No device is needed.

use std::{
    error::Error as StdError,
    panic::{AssertUnwindSafe, catch_unwind},
};

use naga::{
    Module, ResourceBinding, ShaderStage,
    back::{hlsl, msl, spv},
    proc::{BoundsCheckPolicies, BoundsCheckPolicy},
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

use crate::{
    Error, Result,
    gpu::{Kernel, Needs, Reflection, Value, reflect},
};

/// A kernel in the language of each graphics API, without run-time checks, as release pipelines are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translations {
    /// SPIR-V 1.3, in words.
    pub spirv: Vec<u32>,
    /// Metal Shading Language 2.4; none for matrix units of 16 rows, which Metal has not.
    pub msl: Option<String>,
    /// HLSL of shader model 6.0, or 6.2 for kernels with native 16-bit floats; none for matrix units.
    pub hlsl: Option<String>,
}

/// The naga capabilities that a kernel with these needs may use, and no others: what wgpu grants a device with the features
/// of the same names.
pub fn capabilities(needs: &Needs) -> Capabilities {
    let mut capabilities = Capabilities::IMMEDIATES;
    capabilities.set(Capabilities::SHADER_FLOAT16, needs.f16);
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, needs.half);
    capabilities.set(Capabilities::SUBGROUP, needs.subgroup);
    capabilities.set(Capabilities::SHADER_INT64, needs.words64);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, needs.matrices);
    capabilities
}

/// Reflects and validates a kernel, and translates it for Vulkan, Metal and DirectX 12. This proves that the translation
/// exists, not that a driver compiles it.
///
/// # Errors
/// `Shader` when the kernel differs from its description, is invalid, uses what it does not declare, or has no translation.
pub fn translate(kernel: &Kernel) -> Result<Translations> {
    let wrong = |message: String| Error::Shader {
        kernel: kernel.label(),
        message,
    };
    let Reflection {
        source,
        module,
        bindings,
        ..
    } = reflect(kernel)?;
    let info = Validator::new(ValidationFlags::all(), capabilities(&kernel.needs))
        .validate(&module)
        .map_err(|error| wrong(error.emit_to_string(&source)))?;
    let bindings: Vec<(ResourceBinding, bool)> = bindings
        .into_iter()
        .map(|(binding, write)| (ResourceBinding { group: 0, binding }, write))
        .collect();
    let matrices = kernel.needs.matrices;
    let on_metal = !matrices || kernel.spec.0.contains(&("SIDE", Value::U32(8)));
    let text =
        |offered: bool, language, writer: &dyn Fn() -> std::result::Result<String, String>| {
            let text = offered.then(|| guarded(language, writer));
            text.transpose().map_err(wrong)
        };
    Ok(Translations {
        spirv: guarded("SPIR-V", || write_spirv(kernel, &module, &info, &bindings))
            .map_err(wrong)?,
        msl: text(on_metal, "MSL", &|| write_msl(&module, &info, &bindings))?,
        hlsl: text(!matrices, "HLSL", &|| {
            write_hlsl(kernel, &module, &info, &bindings)
        })?,
    })
}

/// Runs a writer. Some of naga's paths are unimplemented and panic.
fn guarded<T>(
    language: &str,
    writer: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(writer)) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(message)) => Err(format!("no {language}: {message}")),
        Err(_) => Err(format!("no {language}: the writer panicked")),
    }
}

fn words(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

fn write_spirv(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
    bindings: &[(ResourceBinding, bool)],
) -> std::result::Result<Vec<u32>, String> {
    use spv::Capability;
    let mut capabilities = vec![Capability::Shader];
    if kernel.needs.f16 {
        capabilities.push(Capability::Float16);
    }
    if kernel.needs.words64 {
        capabilities.push(Capability::Int64);
    }
    if kernel.needs.matrices {
        capabilities.extend([
            Capability::CooperativeMatrixKHR,
            Capability::VulkanMemoryModel,
        ]);
    }
    if kernel.needs.subgroup {
        capabilities.extend([
            Capability::GroupNonUniform,
            Capability::GroupNonUniformVote,
            Capability::GroupNonUniformArithmetic,
            Capability::GroupNonUniformBallot,
            Capability::GroupNonUniformShuffle,
            Capability::GroupNonUniformShuffleRelative,
            Capability::GroupNonUniformQuad,
        ]);
    }
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::DEBUG,
        fake_missing_bindings: false,
        binding_map: bindings
            .iter()
            .map(|(binding, _)| {
                let info = spv::BindingInfo {
                    descriptor_set: binding.group,
                    binding: binding.binding,
                    binding_array_size: None,
                };
                (*binding, info)
            })
            .collect(),
        capabilities: Some(capabilities.into_iter().collect()),
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let entry = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: "main".into(),
    };
    spv::write_vec(module, info, &options, Some(&entry)).map_err(|error| words(&error))
}

fn write_msl(
    module: &Module,
    info: &ModuleInfo,
    bindings: &[(ResourceBinding, bool)],
) -> std::result::Result<String, String> {
    // Buffers in order, then the immediates, then the lengths of the buffers.
    let count = bindings.len() as msl::Slot;
    let resources = bindings
        .iter()
        .zip(0..)
        .map(|((binding, write), slot)| {
            let target = msl::BindTarget {
                buffer: Some(slot),
                mutable: *write,
                ..Default::default()
            };
            (*binding, target)
        })
        .collect();
    let resources = msl::EntryPointResources {
        resources,
        immediates_buffer: Some(count),
        sizes_buffer: Some(count + 1),
    };
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [("main".to_owned(), resources)].into_iter().collect(),
        fake_missing_bindings: false,
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let entry = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, "main".into())),
        ..Default::default()
    };
    let (text, written) =
        msl::write_string(module, info, &options, &entry).map_err(|error| words(&error))?;
    for name in written.entry_point_names {
        name.map_err(|error| words(&error))?;
    }
    Ok(text)
}

fn write_hlsl(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
    bindings: &[(ResourceBinding, bool)],
) -> std::result::Result<String, String> {
    let target = |register| hlsl::BindTarget {
        register,
        ..Default::default()
    };
    let options = hlsl::Options {
        shader_model: if kernel.needs.f16 {
            hlsl::ShaderModel::V6_2
        } else {
            hlsl::ShaderModel::V6_0
        },
        binding_map: bindings
            .iter()
            .map(|(binding, _)| (*binding, target(binding.binding)))
            .collect(),
        fake_missing_bindings: false,
        // Kernels take the number of groups, which the API does not offer: wgpu passes it as constants.
        special_constants_binding: Some(target(0)),
        immediates_target: Some(target(1)),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    let entry = hlsl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, "main".into())),
    };
    let mut text = String::new();
    let written = hlsl::Writer::new(&mut text, &options, &entry)
        .write(module, info, None)
        .map_err(|error| words(&error))?;
    for name in written.entry_point_names {
        name.map_err(|error| words(&error))?;
    }
    Ok(text)
}
