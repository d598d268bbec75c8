//! Buffers kept between calls: temporaries of plans and read-back buffers.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Gpu, lock};
use crate::Result;

/// What a pooled buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    /// Storage that kernels write before they read.
    Scratch,
    /// Host-readable copies.
    ReadBack,
}

impl Use {
    fn usage(self) -> wgpu::BufferUsages {
        match self {
            Use::Scratch => {
                wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST
            }
            Use::ReadBack => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        }
    }
}

/// Idle buffers by use and size class.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<(Use, u64), Vec<wgpu::Buffer>>>,
    allocations: AtomicUsize,
}

/// Rounds up to a power of two or three quarters of one, so that few sizes occur and at most a third is wasted.
fn size_class(bytes: u64, largest: u64) -> u64 {
    let power = bytes.max(256).next_power_of_two();
    let class = if bytes <= power / 4 * 3 {
        power / 4 * 3
    } else {
        power
    };
    if class > largest {
        bytes.next_multiple_of(16)
    } else {
        class
    }
}

impl Pool {
    /// An idle buffer of at least this size, or a new one.
    pub fn take(&self, gpu: &Gpu, usage: Use, bytes: u64) -> Result<wgpu::Buffer> {
        let class = size_class(bytes, gpu.caps().buffer_bytes);
        if let Some(buffer) = lock(&self.idle).get_mut(&(usage, class)).and_then(Vec::pop) {
            return Ok(buffer);
        }
        self.allocations.fetch_add(1, Ordering::Relaxed);
        gpu.create_buffer("pool", class, usage.usage(), false)
    }

    /// Gives a buffer back. Work already recorded may still use it: a later user writes before it reads, and the queue keeps
    /// the order.
    ///
    /// Buffers beyond the scratch budget are freed instead of kept.
    pub fn give(&self, gpu: &Gpu, usage: Use, buffer: wgpu::Buffer) {
        let mut idle = lock(&self.idle);
        let kept: u64 = idle.values().flatten().map(wgpu::Buffer::size).sum();
        if kept + buffer.size() <= gpu.caps().scratch_bytes {
            idle.entry((usage, buffer.size())).or_default().push(buffer);
        }
    }

    /// Frees all idle buffers.
    pub fn trim(&self) {
        lock(&self.idle).clear();
    }

    /// Buffers made so far.
    pub fn allocations(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_waste_at_most_a_third_and_never_shrink() {
        for bytes in (1..100_000).step_by(7) {
            let class = size_class(bytes, u64::MAX);
            assert!(
                class >= bytes && class.is_multiple_of(16),
                "{bytes} -> {class}"
            );
            assert!(
                bytes <= 256 || 2 * class <= 3 * bytes + 32,
                "{bytes} -> {class}"
            );
        }
        assert_eq!(size_class(1000, 1008), 1008);
    }
}
