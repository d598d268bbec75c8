//! How kernels that walk rows read and write them.

use crate::{
    elements::Access,
    gpu::{Dtype, Kernel, Part, Spec, part},
};

/// How a kernel reads x and writes its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Io {
    /// Storage type of what is written, and of x unless that is wide.
    pub dtype: Dtype,
    /// Whether shaders have that type natively.
    pub native: bool,
    /// Whether rows of x are whole vectors.
    pub vectors: bool,
    /// Whether x is f32 whatever the storage type.
    pub wide: bool,
    pub put: Put,
}

/// How a kernel writes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Whole vectors of f32, padding included.
    Wide,
    /// Whole vectors of the storage type.
    Typed,
    /// Elements, as f32.
    Single,
}

impl Put {
    fn part(self) -> Part {
        match self {
            Put::Wide => part!("linear/put_wide.wgsl"),
            Put::Typed => part!("linear/put_typed.wgsl"),
            Put::Single => part!("linear/put_single.wgsl"),
        }
    }
}

impl Io {
    fn access(self) -> Access {
        // Where nothing is read or written in the storage type, one variant serves all.
        let untyped = self.wide && self.put != Put::Typed;
        Access {
            dtype: if untyped { Dtype::F32 } else { self.dtype },
            native: self.native,
            vectors: self.vectors,
        }
    }

    pub fn kernel(
        self,
        name: &'static str,
        parts: impl IntoIterator<Item = Part>,
        put: Option<Put>,
    ) -> Kernel {
        let x = if self.wide {
            part!("linear/x_wide.wgsl")
        } else {
            part!("linear/x_stored.wgsl")
        };
        let access = self.access();
        Kernel {
            name,
            parts: parts
                .into_iter()
                .chain([x, part!("common/grid.wgsl")])
                .chain(access.parts())
                .chain(put.map(Put::part))
                .collect(),
            spec: Spec::default(),
            needs: access.needs(),
            params: &[],
            workgroup: [64, 1, 1],
            workgroup_bytes: 0,
        }
    }
}
