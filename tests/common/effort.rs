//! How much the tests run.

/// Whether every plan is run, on several devices' plans, with run-time checks and without, and every size: `SUBQUAD_THOROUGH` says
/// so, and CI does. Otherwise the planner's choice for the device at hand is, because compiling kernels is what tests spend their
/// time on: half an hour on two cores.
pub fn thorough() -> bool {
    std::env::var_os("SUBQUAD_THOROUGH").is_some()
}

/// All of these where everything is run, every third otherwise, from the first on.
#[allow(dead_code, reason = "shared by test binaries that do not all need it")]
pub fn sample<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    all.into_iter().step_by(if thorough() { 1 } else { 3 })
}
