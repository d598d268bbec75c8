//! The adapter of tests, and storage types to and from f64.

use std::sync::{Mutex, MutexGuard, PoisonError};

use half::{bf16, f16};
use subquad::{Gpu, Select, Tensor, gpu::Elem};

/// One device to a test at a time, because software adapters compile kernels on a thread of the device, and then to the next test,
/// with its kernels. Never dropped: a device does not survive the end of its thread's locals.
pub fn gpu() -> &'static Gpu {
    static FREE: Mutex<Vec<&'static Gpu>> = Mutex::new(Vec::new());
    fn free() -> MutexGuard<'static, Vec<&'static Gpu>> {
        FREE.lock().unwrap_or_else(PoisonError::into_inner)
    }
    struct Lent(&'static Gpu);
    impl Drop for Lent {
        fn drop(&mut self) {
            free().push(self.0);
        }
    }
    thread_local! {
        static LENT: Lent = {
            let other = free().pop();
            Lent(other.unwrap_or_else(|| Box::leak(Box::new(
                Gpu::open(&Select::from_env()).expect("these tests need an adapter, such as Debian's mesa-vulkan-drivers"),
            ))))
        };
    }
    LENT.with(|lent| lent.0)
}

/// Storage types, to and from f64.
pub trait Number: Elem {
    fn from(x: f64) -> Self;
    fn to(self) -> f64;
}

impl Number for f32 {
    fn from(x: f64) -> f32 {
        x as f32
    }
    fn to(self) -> f64 {
        self.into()
    }
}

impl Number for f16 {
    fn from(x: f64) -> f16 {
        f16::from_f64(x)
    }
    fn to(self) -> f64 {
        self.into()
    }
}

impl Number for bf16 {
    fn from(x: f64) -> bf16 {
        bf16::from_f64(x)
    }
    fn to(self) -> f64 {
        self.into()
    }
}

/// As the device gets them.
pub fn round<T: Number>(values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| T::from(*x).to()).collect()
}

pub fn upload<T: Number>(values: &[f64]) -> Tensor<T> {
    let values: Vec<T> = values.iter().map(|x| T::from(*x)).collect();
    gpu().upload(&values).unwrap()
}

pub fn download<T: Number>(tensor: &Tensor<T>) -> Vec<f64> {
    tensor.download().unwrap().into_iter().map(T::to).collect()
}
