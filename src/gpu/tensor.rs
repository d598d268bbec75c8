//! Typed ranges of device buffers, and how they travel.

use std::{
    future::Future,
    marker::PhantomData,
    ops::Range,
    time::{Duration, Instant},
};

use bytemuck::Pod;
use futures::channel::oneshot;
use half::{bf16, f16};

use super::{Gpu, pool::Use};
use crate::{Error, Result};

/// Element types that tensors store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16, packed two to a word.
    Bf16,
    /// Unsigned words.
    U32,
    /// Signed words.
    I32,
    /// Bytes.
    U8,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F32 | Dtype::U32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::U32 => "u32",
            Dtype::I32 => "i32",
            Dtype::U8 => "u8",
        }
    }
}

/// Types a [`Tensor`] can hold.
pub trait Elem: Pod + Send + Sync {
    /// The type at run time.
    const DTYPE: Dtype;
}

impl Elem for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Elem for f16 {
    const DTYPE: Dtype = Dtype::F16;
}
impl Elem for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}
impl Elem for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Elem for i32 {
    const DTYPE: Dtype = Dtype::I32;
}
impl Elem for u8 {
    const DTYPE: Dtype = Dtype::U8;
}

/// A range of a device buffer holding `len` elements; shapes live with the operators.
#[derive(Debug)]
pub struct Tensor<T: Elem> {
    gpu: Gpu,
    buffer: wgpu::Buffer,
    offset: u64,
    len: usize,
    elem: PhantomData<T>,
}

/// A tensor a plan reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A tensor a plan writes. It borrows the tensor mutably, so the borrow checker forbids what the device would refuse:
/// reading and writing one buffer in one dispatch.
#[derive(Debug)]
pub struct ViewMut<'a>(pub(super) View<'a>);

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

fn byte_len<T: Elem>(len: usize) -> Result<u64> {
    (len as u64)
        .checked_mul(T::DTYPE.bytes())
        .ok_or(Error::Limit {
            what: "bytes in one tensor".into(),
            needed: u64::MAX,
            available: i64::MAX as u64,
            remedy: "cut the batch",
        })
}

impl Gpu {
    /// Copies values into a new tensor.
    ///
    /// # Errors
    /// `Limit` when they exceed the device's largest buffer, `OutOfMemory`, `DeviceLost`.
    pub fn upload<T: Elem>(&self, values: &[T]) -> Result<Tensor<T>> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let size = (bytes.len() as u64).max(16).next_multiple_of(16);
        let buffer = self.create_buffer("tensor", size, STORAGE, true)?;
        let mapped = buffer.slice(..bytes.len().next_multiple_of(8) as u64);
        if !bytes.is_empty() {
            let mut range = mapped.get_mapped_range_mut().map_err(|error| Error::Gpu {
                message: error.to_string(),
            })?;
            range.slice(..bytes.len()).copy_from_slice(bytes);
        }
        buffer.unmap();
        Ok(self.tensor(buffer, 0, values.len()))
    }

    /// A new tensor of zeros.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn zeros<T: Elem>(&self, len: usize) -> Result<Tensor<T>> {
        let size = byte_len::<T>(len)?.max(16).next_multiple_of(16);
        Ok(self.tensor(self.create_buffer("tensor", size, STORAGE, false)?, 0, len))
    }

    /// Uses part of a buffer of the same device as a tensor, without a copy. `offset` is in bytes, `len` in elements.
    ///
    /// # Errors
    /// `Argument` when the buffer lacks `STORAGE`, the offset is not a multiple of `Caps::offset_align`, or the range (rounded
    /// up to whole words) leaves the buffer.
    pub fn wrap<T: Elem>(
        &self,
        buffer: wgpu::Buffer,
        offset: u64,
        len: usize,
    ) -> Result<Tensor<T>> {
        let refuse = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op: "Gpu::wrap",
                what: what.into(),
                expected,
                got,
            })
        };
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return refuse(
                "buffer",
                "made with usage STORAGE".into(),
                format!("{:?}", buffer.usage()),
            );
        }
        let align = u64::from(self.caps().offset_align);
        if !offset.is_multiple_of(align) {
            return refuse(
                "offset",
                format!("a multiple of {align} bytes"),
                offset.to_string(),
            );
        }
        let end = byte_len::<T>(len)?
            .max(4)
            .next_multiple_of(4)
            .checked_add(offset);
        if end.is_none_or(|end| end > buffer.size()) {
            return refuse(
                "len",
                format!(
                    "at most what {} bytes hold from byte {offset} on",
                    buffer.size()
                ),
                format!("{len} elements of {}", T::DTYPE.name()),
            );
        }
        Ok(self.tensor(buffer, offset, len))
    }

    fn tensor<T: Elem>(&self, buffer: wgpu::Buffer, offset: u64, len: usize) -> Tensor<T> {
        Tensor {
            gpu: self.clone(),
            buffer,
            offset,
            len,
            elem: PhantomData,
        }
    }
}

impl<T: Elem> Tensor<T> {
    /// Number of elements.
    #[allow(
        clippy::len_without_is_empty,
        reason = "an empty tensor is an ordinary argument, nobody asks"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// For a plan to read.
    pub fn view(&self) -> View<'_> {
        let bytes = (self.len as u64 * T::DTYPE.bytes()).next_multiple_of(4);
        View {
            buffer: &self.buffer,
            offset: self.offset,
            bytes,
        }
    }

    /// For a plan to write.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut(self.view())
    }

    /// The buffer and the range of bytes in it.
    pub fn buffer(&self) -> (&wgpu::Buffer, Range<u64>) {
        (
            &self.buffer,
            self.offset..self.offset + self.len as u64 * T::DTYPE.bytes(),
        )
    }

    /// The buffer, for the caller's own use.
    pub fn into_buffer(self) -> wgpu::Buffer {
        self.buffer
    }

    /// Overwrites the tensor. Ordered before everything submitted later.
    ///
    /// # Errors
    /// `Argument` when the number of values differs or fills no whole words, `DeviceLost`.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if values.len() != self.len || !bytes.len().is_multiple_of(4) {
            let expected = format!("{} elements filling whole 4-byte words", self.len);
            return Err(Error::Argument {
                op: "Tensor::write",
                what: "values".into(),
                expected,
                got: format!("{} elements", values.len()),
            });
        }
        self.gpu.scoped(|| {
            self.gpu
                .queue()
                .write_buffer(&self.buffer, self.offset, bytes)
        })
    }

    /// Copies the elements to the host, after everything submitted so far.
    ///
    /// # Errors
    /// `Argument` when a wrapped buffer lacks `COPY_SRC`; `Timeout`, `OutOfMemory`, `DeviceLost`.
    pub fn download(&self) -> Result<Vec<T>> {
        self.read_back()?.finish_blocking()
    }

    /// [`Tensor::download`] without blocking: a thread of its own waits for the device, under the same time limit.
    pub fn download_async(&self) -> impl Future<Output = Result<Vec<T>>> + Send + use<T> {
        let started = self.read_back();
        let (send, receive) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = send.send(started.and_then(ReadBack::finish_blocking));
        });
        async move {
            receive.await.unwrap_or_else(|_| {
                Err(Error::Gpu {
                    message: "the thread reading back ended".into(),
                })
            })
        }
    }

    fn read_back(&self) -> Result<ReadBack<T>> {
        let gpu = self.gpu.clone();
        let bytes = (self.len as u64 * T::DTYPE.bytes()).next_multiple_of(8);
        if self.len == 0 {
            gpu.alive()?;
            return Ok(ReadBack {
                gpu,
                pending: None,
                len: 0,
                elem: PhantomData,
            });
        }
        if !self.buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
            let expected = "made with usage COPY_SRC to be read back".into();
            return Err(Error::Argument {
                op: "Tensor::download",
                what: "buffer".into(),
                expected,
                got: format!("{:?}", self.buffer.usage()),
            });
        }
        let staging = gpu.0.pool.take(&gpu, Use::ReadBack, bytes)?;
        let (send, mapped) = oneshot::channel();
        let copied = bytes.min(self.buffer.size() - self.offset) & !3;
        let index = gpu.submit(|| {
            let mut encoder =
                gpu.device()
                    .create_command_encoder(&wgpu::CommandEncoderDescriptor {
                        label: Some("read back"),
                    });
            encoder.copy_buffer_to_buffer(&self.buffer, self.offset, &staging, 0, Some(copied));
            encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, 0..bytes, move |result| {
                let _ = send.send(result);
            });
            encoder.finish()
        })?;
        Ok(ReadBack {
            gpu,
            pending: Some((staging, index, mapped, bytes)),
            len: self.len,
            elem: PhantomData,
        })
    }
}

type Mapped = oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>;

/// A copy under way.
struct ReadBack<T> {
    gpu: Gpu,
    pending: Option<(wgpu::Buffer, wgpu::SubmissionIndex, Mapped, u64)>,
    len: usize,
    elem: PhantomData<T>,
}

impl<T: Elem> ReadBack<T> {
    fn finish_blocking(self) -> Result<Vec<T>> {
        let gpu = self.gpu;
        let Some((staging, index, mut mapped, bytes)) = self.pending else {
            return Ok(Vec::new());
        };
        gpu.poll(Some(index), gpu.timeout())?;
        let lost = |reason: String| Error::DeviceLost { reason };
        // Another thread's poll may have taken the notice of this mapping and be about to deliver it.
        let deadline = Instant::now() + gpu.timeout();
        loop {
            match mapped.try_recv() {
                Ok(Some(Ok(()))) => break,
                Ok(Some(Err(error))) => return Err(lost(error.to_string())),
                Err(_) => return Err(lost("a buffer was not mapped after its submission".into())),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(20))
                }
                Ok(None) => {
                    return Err(Error::Timeout {
                        after: gpu.timeout(),
                    });
                }
            }
        }
        let mut values = vec![T::zeroed(); self.len];
        {
            let range = staging
                .slice(..bytes)
                .get_mapped_range()
                .map_err(|error| lost(error.to_string()))?;
            let target: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
            let len = target.len();
            target.copy_from_slice(range.get(..len).unwrap_or_default());
        }
        staging.unmap();
        gpu.0.pool.give(&gpu, Use::ReadBack, staging);
        Ok(values)
    }
}
