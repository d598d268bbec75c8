//! Arrays that numpy saved: versions 1 to 3, little-endian f2 or f4, rows last index fastest.

use crate::{case::Array, gpu::Dtype};

/// Why bytes are no array that can be read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// They do not begin as numpy's files do.
    #[error("is not an .npy file")]
    Magic,
    /// A later version of the format.
    #[error("has version {0} of the .npy format; 1 to 3 can be read")]
    Version(u8),
    /// The header is cut off or lacks an entry.
    #[error("has an .npy header without {0}")]
    Header(&'static str),
    /// Elements of another type.
    #[error("has elements of type {0}; use little-endian f2 or f4")]
    Type(String),
    /// The first index runs fastest.
    #[error("is in Fortran order; save it with numpy.ascontiguousarray")]
    Order,
    /// Fewer or more bytes than the shape asks for.
    #[error("has {got} bytes of elements, its shape asks for {expected}")]
    Length {
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
}

/// The array in the bytes of an .npy file.
///
/// # Errors
/// [`NpyError`], one sentence each without its subject, the file.
pub fn parse(bytes: &[u8]) -> Result<Array, NpyError> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or(NpyError::Magic)?;
    let [version, _, rest @ ..] = rest else {
        return Err(NpyError::Magic);
    };
    let cut = NpyError::Header("its length");
    let (len, rest) = match version {
        1 => rest
            .split_first_chunk()
            .map(|(len, rest)| (u16::from_le_bytes(*len).into(), rest)),
        2 | 3 => rest
            .split_first_chunk()
            .map(|(len, rest)| (u32::from_le_bytes(*len), rest)),
        other => return Err(NpyError::Version(*other)),
    }
    .ok_or(cut)?;
    let (header, data) = rest
        .split_at_checked(len as usize)
        .ok_or(NpyError::Header("an end"))?;
    let header = String::from_utf8_lossy(header);
    let entry = |key: &'static str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let value = quoted
            .iter()
            .find_map(|key| header.split_once(key.as_str()));
        let value = value.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
        value.map(str::trim_start).ok_or(NpyError::Header(key))
    };
    let descr = entry("descr")?;
    let descr = match descr.chars().next() {
        Some(quote @ ('\'' | '"')) => descr.split(quote).nth(1).unwrap_or_default(),
        _ => descr.split('}').next().unwrap_or_default(),
    };
    let dtype = match descr {
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        other => return Err(NpyError::Type(other.into())),
    };
    if !entry("fortran_order")?.starts_with("False") {
        return Err(NpyError::Order);
    }
    let sizes = entry("shape")?
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'));
    let (sizes, _) = sizes.ok_or(NpyError::Header("shape"))?;
    let sizes = sizes
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes
        .map(|size| size.parse().map_err(|_| NpyError::Header("shape")))
        .collect::<Result<_, _>>()?;
    let expected = shape
        .iter()
        .try_fold(dtype.bytes() as usize, |bytes, size| {
            bytes.checked_mul(*size)
        })
        .ok_or(NpyError::Header("shape"))?;
    if data.len() != expected {
        return Err(NpyError::Length {
            expected,
            got: data.len(),
        });
    }
    Ok(Array {
        dtype,
        shape,
        bytes: data.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        let len = header.len() as u32;
        match version {
            1 => bytes.extend((len as u16).to_le_bytes()),
            _ => bytes.extend(len.to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    const HEADER: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n";

    #[test]
    fn arrays_of_floats_are_read() {
        let data: Vec<u8> = (0..6u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
        for version in [1, 2, 3] {
            let array = parse(&file(version, HEADER, &data)).unwrap();
            assert_eq!(
                (array.shape.clone(), array.values()),
                (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
            );
        }
        let half = HEADER.replace("<f4", "<f2").replace("(2, 3)", "(6,)");
        let array = parse(&file(1, &half, &[0; 12])).unwrap();
        assert_eq!((array.dtype, array.shape), (Dtype::F16, vec![6]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refused = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(refused(b"NUMPY"), NpyError::Magic);
        assert_eq!(refused(b"\x93NUMPY"), NpyError::Magic);
        assert_eq!(refused(&file(9, HEADER, &[])), NpyError::Version(9));
        assert_eq!(
            refused(&file(1, HEADER, &[0; 23])),
            NpyError::Length {
                expected: 24,
                got: 23
            }
        );
        assert_eq!(
            refused(&file(1, HEADER, &[])[..20]),
            NpyError::Header("an end")
        );
        let with = |from: &str, to: &str| refused(&file(1, &HEADER.replace(from, to), &[0; 24]));
        assert_eq!(with("<f4", "<i8"), NpyError::Type("<i8".into()));
        assert_eq!(with("<f4", ">f4"), NpyError::Type(">f4".into()));
        assert_eq!(with("False", "True"), NpyError::Order);
        assert_eq!(with("'shape'", "'form'"), NpyError::Header("shape"));
        assert_eq!(with("(2, 3)", "(2, x)"), NpyError::Header("shape"));
        assert_eq!(
            with("(2, 3)", "(99999999999, 99999999999)"),
            NpyError::Header("shape")
        );
        let fields = with("'descr': '<f4'", "'descr': [('a', '<f4')]");
        assert!(matches!(fields, NpyError::Type(_)), "{fields:?}");
    }
}
