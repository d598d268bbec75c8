//! The device layer: opens or shares a device, holds tensors, compiles kernels, records and submits plans.
//!
//! Nothing here names an operator. Everything that can fail returns [`Error`]; every wait is bounded by
//! [`Select::timeout`]. A [`Gpu`] is a handle: clones share one device, one pipeline cache and one pool.

mod caps;
mod disk;
mod kernel;
mod matrices;
mod pass;
mod pipeline;
mod pool;
mod reflect;
mod select;
mod tensor;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

pub use caps::{Caps, Class, Coop, DEFAULT_SCRATCH_BYTES, Matrices};
use disk::Disk;
pub use kernel::{Field, Kernel, Needs, Part, Spec, Value};
pub(crate) use kernel::{params, part};
pub use pass::Replay;
pub use pass::{Done, Pass, Timing};
use pipeline::Pipelines;
use pool::Pool;
pub use reflect::{Reflection, reflect};
pub use select::{AdapterReport, Select, adapters};
pub use tensor::{Dtype, Elem, Tensor, View, ViewMut};

use crate::{Error, Result, choice::Profile};

/// Submissions that may be under way before the next one waits for the oldest.
const IN_FLIGHT: usize = 64;

/// A device with its pipelines and buffers. Cheap to clone; safe to use from many threads.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    timeout: Duration,
    checked: bool,
    pipelines: Pipelines,
    disk: Option<Disk>,
    pool: Pool,
    lost: Arc<OnceLock<String>>,
    uncaptured: Arc<Mutex<Option<String>>>,
    in_flight: Mutex<VecDeque<wgpu::SubmissionIndex>>,
}

impl Gpu {
    /// Opens the adapter that the selection describes.
    ///
    /// # Errors
    /// `NoAdapter` when none fits, with the reason each present one was refused; `Device` when the driver refuses; `File` and
    /// `Argument` for a profile that cannot be read or is another adapter's.
    pub fn open(select: &Select) -> Result<Gpu> {
        let adapter = select::pick(select)?;
        let units = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let mut request = Gpu::device_request(&adapter);
        let open = |request: &_| pollster::block_on(adapter.request_device(request));
        let mut opened = open(&request);
        // A driver that lists matrix units and then refuses them is used without.
        if opened.is_err() && request.required_features.contains(units) {
            request.required_features.remove(units);
            opened = open(&request);
        }
        let (device, queue) = opened.map_err(|error| Error::Device {
            adapter: adapter.get_info().name,
            message: error.to_string(),
        })?;
        let gpu = Gpu::assemble(device, queue, Some(&adapter), select)?;
        let lost = gpu.0.lost.clone();
        gpu.0
            .device
            .set_device_lost_callback(move |reason, message| {
                let _ = lost.set(format!("{reason:?}: {message}"));
            });
        let uncaptured = gpu.0.uncaptured.clone();
        gpu.0
            .device
            .on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                *lock(&uncaptured) = Some(chain(&error));
            }));
        Ok(gpu)
    }

    /// Shares a device that the caller made. Give the adapter where there is one: matrix units and downlevel flags are
    /// known to it alone.
    ///
    /// Where the device has matrix units that kernels could use, a small test of them is submitted to the queue and waited for.
    ///
    /// No callback is registered on the device, because a device keeps only the last one: forward a loss with
    /// [`Gpu::mark_lost`].
    ///
    /// # Errors
    /// `Unsupported` when the device lacks the feature `IMMEDIATES` or 128 bytes of them; see [`Gpu::device_request`].
    pub fn from_wgpu(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        adapter: Option<&wgpu::Adapter>,
    ) -> Result<Gpu> {
        Gpu::assemble(device.clone(), queue.clone(), adapter, &Select::default())
    }

    /// What to ask of an adapter when making a device to share with this crate: all its limits, and those of its features
    /// that kernels here can use.
    pub fn device_request(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
        wgpu::DeviceDescriptor {
            label: Some("subquad"),
            required_features: adapter.features() & select::wanted_features(),
            required_limits: adapter.limits(),
            // SAFETY: the one experimental feature asked for is matrix units, whose kernels are this crate's own, keep within
            // their arrays, and run only on a device where they were found to compute what they should.
            experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
            ..Default::default()
        }
    }

    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter: Option<&wgpu::Adapter>,
        select: &Select,
    ) -> Result<Gpu> {
        let mut caps = select::caps(&device, adapter, select.scratch_bytes);
        if let Some(path) = &select.profile {
            caps.profile = Profile::read(path, &caps.name)?;
        }
        select::usable(&caps, device.features())?;
        let disk = select
            .pipeline_cache
            .as_deref()
            .and_then(|folder| Disk::open(&device, folder));
        caps.matrices = caps.listed_matrices();
        let mut gpu = Gpu(Arc::new(Inner {
            device,
            queue,
            caps,
            timeout: select.timeout,
            checked: select.checked,
            pipelines: Pipelines::default(),
            disk,
            pool: Pool::default(),
            lost: Arc::default(),
            uncaptured: Arc::default(),
            in_flight: Mutex::default(),
        }));
        if let Some(units) = gpu.caps().matrices {
            // Whatever goes wrong with them, there is a way without.
            let good = matrices::work(&gpu, units, units.parts()).unwrap_or(false);
            if let Some(inner) = Arc::get_mut(&mut gpu.0) {
                inner.caps.matrices = inner.caps.matrices.filter(|_| good);
                inner.pipelines = Pipelines::default();
                inner.pool = Pool::default();
            }
        }
        Ok(gpu)
    }

    /// What the device can do.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// The device itself.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The queue itself.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// The longest any call on this handle waits for the device.
    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Starts recording.
    pub fn pass(&self, label: &'static str) -> Pass {
        Pass::new(self.clone(), label)
    }

    /// Frees the temporaries kept for later calls.
    pub fn trim(&self) {
        self.0.pool.trim();
    }

    /// Pipelines compiled so far; constant over warm calls.
    pub fn pipelines(&self) -> usize {
        self.0.pipelines.len()
    }

    /// Writes what the driver made of the pipelines so far into the folder [`Select::pipeline_cache`], for the next process to
    /// start with. Returns the file, or nothing where no folder was named or the backend has no such cache.
    ///
    /// # Errors
    /// `File` when the folder cannot be made or written; then the file is as it was.
    pub fn save_pipelines(&self) -> Result<Option<std::path::PathBuf>> {
        self.0.disk.as_ref().map_or(Ok(None), Disk::save)
    }

    /// Buffers allocated for temporaries and read-back so far; constant over warm calls.
    pub fn pool_allocations(&self) -> usize {
        self.0.pool.allocations()
    }

    /// Declares the device lost, for devices shared by [`Gpu::from_wgpu`]; later calls return `DeviceLost`.
    pub fn mark_lost(&self, reason: impl Into<String>) {
        let _ = self.0.lost.set(reason.into());
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// `Timeout`, `DeviceLost`.
    pub fn wait(&self) -> Result<()> {
        self.poll(None, self.0.timeout)
    }

    fn alive(&self) -> Result<()> {
        match self.0.lost.get() {
            Some(reason) => Err(Error::DeviceLost {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Runs wgpu calls and turns any error they raise into ours.
    fn scoped<T>(&self, calls: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        if let Some(message) = lock(&self.0.uncaptured).take() {
            return Err(Error::Gpu { message });
        }
        let device = &self.0.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = calls();
        let errors = [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        self.alive()?;
        match errors.into_iter().flatten().next() {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory { bytes: 0 }),
            Some(error) => Err(Error::Gpu {
                message: chain(&error),
            }),
        }
    }

    fn create_buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped: bool,
    ) -> Result<wgpu::Buffer> {
        if bytes > self.0.caps.buffer_bytes {
            let what = format!("bytes in one buffer ({label})");
            return Err(Error::Limit {
                what,
                needed: bytes,
                available: self.0.caps.buffer_bytes,
                remedy: "cut the batch",
            });
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: mapped,
        };
        self.scoped(|| self.0.device.create_buffer(&descriptor))
            .map_err(|error| match error {
                Error::OutOfMemory { .. } => Error::OutOfMemory { bytes },
                error => error,
            })
    }

    fn submit(
        &self,
        commands: impl FnOnce() -> wgpu::CommandBuffer,
    ) -> Result<wgpu::SubmissionIndex> {
        let oldest = {
            let mut queue = lock(&self.0.in_flight);
            if queue.len() >= IN_FLIGHT {
                queue.pop_front()
            } else {
                None
            }
        };
        if let Some(oldest) = oldest {
            self.poll(Some(oldest), self.0.timeout)?;
        }
        let index = self.scoped(|| self.0.queue.submit([commands()]))?;
        lock(&self.0.in_flight).push_back(index.clone());
        Ok(index)
    }

    fn poll(
        &self,
        submission_index: Option<wgpu::SubmissionIndex>,
        timeout: Duration,
    ) -> Result<()> {
        let waited = self.0.device.poll(wgpu::PollType::Wait {
            submission_index,
            timeout: Some(timeout),
        });
        self.alive()?;
        match waited {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(Error::Timeout { after: timeout }),
            Err(error) => Err(Error::Gpu {
                message: error.to_string(),
            }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().trim().to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(cause_text.trim()) {
            text.push_str(": ");
            text.push_str(cause_text.trim());
        }
        source = cause.source();
    }
    text
}
