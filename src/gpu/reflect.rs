//! What naga reads out of an assembled kernel, and whether it is what the planner believes.

use naga::{AddressSpace, GlobalVariable, Module, TypeInner};

use super::Kernel;
use crate::{Error, Result};

/// An assembled and parsed kernel.
pub struct Reflection {
    /// The WGSL.
    pub source: String,
    /// The parsed module, not validated.
    pub module: Module,
    /// The bindings of group 0 by number, which may have gaps, and whether the kernel may write each.
    pub bindings: Vec<(u32, bool)>,
    /// Bytes of immediates.
    pub immediate_bytes: u32,
}

/// Parses a kernel and holds it against its own description.
///
/// # Errors
/// `Shader` when the text does not parse, a buffer is outside group 0 or shares a binding, or the parameters, workgroup size
/// or workgroup memory differ from what the kernel declares.
pub fn reflect(kernel: &Kernel) -> Result<Reflection> {
    let wrong = |message: String| Error::Shader {
        kernel: kernel.label(),
        message,
    };
    let source = kernel.source();
    let module = naga::front::wgsl::parse_str(&source)
        .map_err(|error| wrong(error.emit_to_string(&source)))?;
    let layout = |variable: &GlobalVariable| {
        module
            .types
            .get_handle(variable.ty)
            .map(|ty| ty.inner.size(module.to_ctx()))
    };

    let mut bindings = Vec::new();
    let (mut immediate_bytes, mut workgroup_bytes) = (0, 0);
    for (_, variable) in module.global_variables.iter() {
        let bytes = layout(variable).map_err(|error| wrong(error.to_string()))?;
        match variable.space {
            AddressSpace::Storage { access } => {
                let binding = variable
                    .binding
                    .filter(|binding| binding.group == 0)
                    .ok_or_else(|| wrong("a buffer is outside group 0".into()))?;
                bindings.push((binding.binding, access.contains(naga::StorageAccess::STORE)));
            }
            AddressSpace::Immediate => {
                immediate_bytes = bytes;
                check_params(kernel, &module, variable).map_err(wrong)?;
            }
            AddressSpace::WorkGroup => workgroup_bytes += bytes.next_multiple_of(16),
            _ => {}
        }
    }
    bindings.sort_unstable();
    if bindings
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
    {
        return Err(wrong("two buffers share a binding".into()));
    }
    if workgroup_bytes != kernel.workgroup_bytes {
        return Err(wrong(format!(
            "it takes {workgroup_bytes} bytes of workgroup memory, the plan counts {}",
            kernel.workgroup_bytes
        )));
    }
    match module.entry_points.as_slice() {
        [entry] if entry.name == "main" && entry.workgroup_size == kernel.workgroup => {}
        _ => {
            return Err(wrong(format!(
                "it must have one entry point `main` of workgroup size {:?}",
                kernel.workgroup
            )));
        }
    }
    Ok(Reflection {
        source,
        module,
        bindings,
        immediate_bytes,
    })
}

fn check_params(
    kernel: &Kernel,
    module: &Module,
    variable: &GlobalVariable,
) -> std::result::Result<(), String> {
    let ty = module
        .types
        .get_handle(variable.ty)
        .map_err(|error| error.to_string())?;
    let TypeInner::Struct { members, .. } = &ty.inner else {
        return Err("its parameters are not a struct".into());
    };
    let shader: Vec<(&str, usize)> = members
        .iter()
        .map(|m| (m.name.as_deref().unwrap_or(""), m.offset as usize))
        .collect();
    if shader != kernel.params {
        return Err(format!(
            "its parameters are {shader:?}, the host passes {:?}",
            kernel.params
        ));
    }
    Ok(())
}
