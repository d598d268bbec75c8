//! Kernels as data: WGSL parts joined behind a prelude of constants.

use std::{
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
};

/// A value in the prelude of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// `const NAME: u32 = …`
    U32(u32),
    /// `const NAME: bool = …`
    Bool(bool),
    /// `const NAME: f32 = …`, kept by its bits so that specs compare and hash.
    F32(u32),
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::U32(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::F32(value.to_bits())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U32(n) => write!(f, "{n}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::F32(bits) => write!(f, "{:?}", f32::from_bits(*bits)),
        }
    }
}

/// The constants that make a variant of a kernel: its prelude, and with the kernel's parts its cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec(pub Vec<(&'static str, Value)>);

impl Spec {
    /// Appends a constant.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Spec {
        self.0.push((name, value.into()));
        self
    }

    /// The constants as WGSL.
    pub fn prelude(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Writing to a String cannot fail.
            let _ = match value {
                Value::U32(n) => writeln!(text, "const {name}: u32 = {n}u;"),
                Value::Bool(b) => writeln!(text, "const {name}: bool = {b};"),
                Value::F32(bits) => {
                    writeln!(text, "const {name}: f32 = {:?};", f32::from_bits(*bits))
                }
            };
        }
        text
    }
}

/// A piece of WGSL. Two parts are the same when their paths are.
#[derive(Clone, Copy)]
pub struct Part {
    /// Path below `shaders/`.
    pub path: &'static str,
    /// The text.
    pub text: &'static str,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.path == other.path
    }
}

impl Eq for Part {}

impl Hash for Part {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

/// Includes `shaders/PATH` as a [`Part`].
macro_rules! part {
    ($path:literal) => {
        $crate::gpu::Part {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path)),
        }
    };
}
pub(crate) use part;

/// What a kernel needs from a device beyond WGSL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// `enable f16;`
    pub f16: bool,
    /// `unpack2x16float` and `pack2x16float`.
    pub half: bool,
    /// Subgroup operations.
    pub subgroup: bool,
    /// 64-bit integers.
    pub words64: bool,
    /// Matrix units.
    pub matrices: bool,
}

impl Needs {
    /// What two parts of a kernel need together.
    pub(crate) fn and(self, other: Needs) -> Needs {
        Needs {
            f16: self.f16 || other.f16,
            half: self.half || other.half,
            subgroup: self.subgroup || other.subgroup,
            words64: self.words64 || other.words64,
            matrices: self.matrices || other.matrices,
        }
    }
}

/// A member of a kernel's parameter struct: name and offset in bytes.
pub type Field = (&'static str, usize);

/// Declares a kernel's parameters: a struct of `u32` and `f32` passed as immediates, with the list of its members
/// that reflection compares with the shader's `Params`.
macro_rules! params {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub(super) struct $name { $(pub $field: $ty),* }

        impl $name {
            pub(super) const FIELDS: &'static [$crate::gpu::Field] = &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(crate) use params;

/// A kernel variant: everything that decides its machine code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Family and file name, such as `linear/chunk`.
    pub name: &'static str,
    /// WGSL parts; the order does not matter to WGSL.
    pub parts: Vec<Part>,
    /// Constants of the prelude.
    pub spec: Spec,
    /// Needs beyond plain WGSL.
    pub needs: Needs,
    /// Members of the parameter struct.
    pub params: &'static [Field],
    /// Invocations per workgroup.
    pub workgroup: [u32; 3],
    /// Workgroup memory, by the planner's count; reflection must agree.
    pub workgroup_bytes: u32,
}

impl Kernel {
    /// Name and what differs between variants: constants, and the parts beside the kernel's own.
    pub fn label(&self) -> String {
        let mut label = self.name.to_owned();
        for (name, value) in &self.spec.0 {
            let _ = write!(label, " {name}={value}");
        }
        for part in self.parts.iter().skip(1) {
            let file = part.path.rsplit('/').next().unwrap_or(part.path);
            let _ = write!(label, " {}", file.trim_end_matches(".wgsl"));
        }
        label
    }

    /// The complete WGSL.
    pub fn source(&self) -> String {
        let mut text = String::new();
        if self.needs.f16 {
            text.push_str("enable f16;\n");
        }
        if self.needs.matrices {
            text.push_str("enable wgpu_cooperative_matrix;\n");
        }
        text.push_str(&self.spec.prelude());
        for part in &self.parts {
            let _ = write!(text, "\n// ---- {}\n{}", part.path, part.text);
        }
        text
    }
}
