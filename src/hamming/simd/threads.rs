//! Tasks shared between threads.

use std::sync::{Mutex, PoisonError};

/// The threads meant by an option, 0 being all.
pub(super) fn count(threads: usize) -> usize {
    match threads {
        0 => rayon::current_num_threads(),
        threads => threads,
    }
}

/// Does every task, the next one on whichever of so many threads is free first. The caller's thread is one of them.
pub(super) fn share<T: Send>(
    threads: usize,
    tasks: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let threads = count(threads).min(tasks.len());
    let tasks = Mutex::new(tasks);
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while let Some(task) = next() {
            work(task);
        }
    };
    if threads <= 1 {
        return worker();
    }
    rayon::in_place_scope(|scope| {
        for _ in 1..threads.min(rayon::current_num_threads() + 1) {
            scope.spawn(|_| worker());
        }
        worker();
    });
}
