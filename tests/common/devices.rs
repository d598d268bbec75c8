//! The plans of other devices that run on the adapter at hand.

use subquad::gpu::{Caps, Class};

use crate::{device::gpu, effort::by_turns};

/// The device as it is, and with the plans of a GPU.
pub fn devices() -> [Caps; 2] {
    let caps = gpu().caps().clone();
    let other = Caps {
        class: Class::Other,
        ..caps.clone()
    };
    [caps, other]
}

/// Both where everything is run, otherwise one that the name decides.
pub fn devices_for(name: &str) -> impl Iterator<Item = Caps> {
    by_turns(devices(), name.bytes().map(usize::from).sum())
}
