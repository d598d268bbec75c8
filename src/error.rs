//! What can go wrong, one variant per kind of remedy.

use std::time::Duration;

use crate::gpu::{Dtype, Elem};

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call did not happen or did not finish; each message says what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter satisfies the selection.
    #[error("no GPU adapter matches {wanted}; {found}")]
    NoAdapter {
        /// What was asked for, in words.
        wanted: String,
        /// What the machine has, in words, with the reason each was refused.
        found: String,
    },
    /// The adapter exists but a device could not be opened on it.
    #[error("the adapter \"{adapter}\" did not open a device: {message}")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// The driver's explanation.
        message: String,
    },
    /// An argument has the wrong size or value.
    #[error("{op}: {what} must be {expected}, got {got}")]
    Argument {
        /// The operator called.
        op: &'static str,
        /// The argument at fault.
        what: String,
        /// What would be right.
        expected: String,
        /// What was passed.
        got: String,
    },
    /// The work does not fit the device or the caller's budget.
    #[error("{what} needs {needed}, the limit is {available}; {remedy}")]
    Limit {
        /// The resource, with its unit.
        what: String,
        /// The amount the call needs.
        needed: u64,
        /// The amount there is.
        available: u64,
        /// What to change.
        remedy: &'static str,
    },
    /// The operator or the device does not offer this combination of options.
    #[error("{op} does not support {what}")]
    Unsupported {
        /// The operator or function called.
        op: &'static str,
        /// The combination refused, and the alternative if there is one.
        what: String,
    },
    /// A kernel does not compile on this device; a bug here or in the driver.
    #[error("kernel {kernel} does not compile: {message}")]
    Shader {
        /// The kernel's label.
        kernel: String,
        /// The compiler's message with the source line.
        message: String,
    },
    /// The values given have no meaningful result (not positive definite, not converged).
    #[error("{op}: {what}")]
    Numeric {
        /// The operator called.
        op: &'static str,
        /// The property the values lack.
        what: String,
    },
    /// The device refused an allocation.
    #[error(
        "the device has no room for {bytes} more bytes; free tensors, call `Gpu::trim` or lower `Select::scratch_bytes`"
    )]
    OutOfMemory {
        /// The size asked for.
        bytes: u64,
    },
    /// The device is gone; open a new one.
    #[error("the device was lost ({reason}); open a new one")]
    DeviceLost {
        /// What the driver or the caller reported.
        reason: String,
    },
    /// The device did not finish in time.
    #[error("the device did not finish within {} ms; raise `Select::timeout` or split the work", after.as_millis())]
    Timeout {
        /// How long the call waited.
        after: Duration,
    },
    /// A file that the caller named cannot be written.
    #[error("{path} {message}")]
    File {
        /// The file.
        path: String,
        /// What happened.
        message: String,
    },
    /// The graphics layer refused a call that this crate made: a bug in this crate.
    #[error("unexpected refusal by the graphics layer, please report it: {message}")]
    Gpu {
        /// The message of the graphics layer.
        message: String,
    },
}

/// Whether an argument has the number of elements that the shape asks for.
pub(crate) fn length(op: &'static str, what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Argument {
        op,
        what: what.into(),
        expected: format!("{expected} elements for this shape"),
        got: len.to_string(),
    })
}

/// Whether tensors of this type fit a shape that names `dtype`.
pub(crate) fn stored_as<T: Elem>(op: &'static str, dtype: Dtype) -> Result<()> {
    if T::DTYPE == dtype {
        return Ok(());
    }
    Err(Error::Argument {
        op,
        what: "shape.dtype".into(),
        expected: format!("the type of the tensors, {}", T::DTYPE.name()),
        got: dtype.name().into(),
    })
}
