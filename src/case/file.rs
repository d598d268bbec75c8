//! Case files, and any other file written whole or not at all.

use std::{collections::BTreeMap, path::Path};

use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Map, Value};

use super::{Array, Case, Failure};
use crate::gpu::Dtype;

impl Case {
    /// Reads a case file, or any safetensors file with `op` and `params` given to override its metadata.
    ///
    /// # Errors
    /// `File` when it cannot be read or is no safetensors file; `Case` when no operator is named.
    pub fn read(
        path: &Path,
        op: Option<&str>,
        params: &Map<String, Value>,
    ) -> Result<Case, Failure> {
        let file = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let bytes = std::fs::read(path).map_err(|error| file(error.to_string()))?;
        let not = |error: safetensors::SafeTensorError| {
            file(format!("is not a safetensors file ({error})"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(not)?;
        let name = path
            .file_stem()
            .map_or_else(|| "case".into(), |stem| stem.to_string_lossy().into_owned());
        let metadata = |key: &str| {
            header
                .metadata()
                .as_ref()
                .and_then(|map| map.get(key))
                .cloned()
        };
        let op = op.map(str::to_owned).or_else(|| metadata("op"));
        let Some(op) = op else {
            let message =
                "names no operator in its metadata; name one with --op, such as linear_attention"
                    .into();
            return Err(Failure::Case {
                case: name,
                message,
            });
        };
        let mut all = match metadata("params").map(|text| serde_json::from_str(&text)) {
            None => Map::new(),
            Some(Ok(Value::Object(map))) => map,
            Some(_) => {
                return Err(Failure::Case {
                    case: name,
                    message: "its metadata `params` is not a JSON object".into(),
                });
            }
        };
        all.extend(params.clone());
        let mut case = Case {
            name,
            op,
            params: all,
            source: metadata("source").unwrap_or_default(),
            inputs: BTreeMap::new(),
            grad_outputs: BTreeMap::new(),
            expected: BTreeMap::new(),
            expected_grads: BTreeMap::new(),
        };
        for (key, view) in tensors.tensors() {
            let Some(array) = array(&view) else {
                let message = format!(
                    "tensor {key} has type {:?}; use F32, F16, BF16, U32, I32 or U8",
                    view.dtype()
                );
                return Err(Failure::Case {
                    case: case.name,
                    message,
                });
            };
            match key.split_once('.') {
                Some(("in", name)) => case.inputs.insert(name.into(), array),
                Some(("out", name)) => case.expected.insert(name.into(), array),
                Some(("grad_out", name)) => case.grad_outputs.insert(name.into(), array),
                Some(("grad", name)) => case.expected_grads.insert(name.into(), array),
                _ => case.inputs.insert(key.clone(), array),
            };
        }
        Ok(case)
    }

    /// Writes tensors as a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// `File` when the folder cannot be written.
    pub fn write_tensors(
        path: &Path,
        tensors: &BTreeMap<String, Array>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let file = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let views = tensors
            .iter()
            .map(|(name, array)| {
                Ok((
                    name,
                    TensorView::new(st_dtype(array.dtype), array.shape.clone(), &array.bytes)?,
                ))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(metadata.into_iter().collect())));
        write_whole(path, &bytes.map_err(|error| file(error.to_string()))?)
    }
}

/// Writes a file whole or not at all: a temporary beside it is renamed.
///
/// # Errors
/// `File` when the folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    crate::file::write_whole(path, bytes).map_err(|error| Failure::File {
        path: path.display().to_string(),
        message: format!("cannot be written ({})", error.kind()),
    })
}

fn array(view: &TensorView<'_>) -> Option<Array> {
    let dtype = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::U32,
        Dtype::I32,
        Dtype::U8,
    ]
    .into_iter()
    .find(|d| st_dtype(*d) == view.dtype())?;
    Some(Array {
        dtype,
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    })
}

fn st_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::Bf16 => safetensors::Dtype::BF16,
        Dtype::U32 => safetensors::Dtype::U32,
        Dtype::I32 => safetensors::Dtype::I32,
        Dtype::U8 => safetensors::Dtype::U8,
    }
}
