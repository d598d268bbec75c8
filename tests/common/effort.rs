//! How much the tests run.

/// Whether every plan is run, on several devices' plans, with run-time checks and without, and every size: `SUBQUAD_THOROUGH` says
/// so, and CI does. Otherwise the planner's choice for the device at hand is, because compiling kernels is what tests spend their
/// time on: half an hour on two cores.
pub fn thorough() -> bool {
    std::env::var_os("SUBQUAD_THOROUGH").is_some()
}

/// All of these where everything is run, every fourth otherwise, from the first on.
#[allow(dead_code, reason = "shared by test binaries that do not all need it")]
pub fn sample<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    all.into_iter().step_by(if thorough() { 1 } else { 4 })
}

/// All of these where everything is run, one otherwise: another at every turn, round and round.
#[allow(dead_code, reason = "shared by test binaries that do not all need it")]
pub fn by_turns<T, I>(all: I, turn: usize) -> impl Iterator<Item = T>
where
    I: IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
{
    let all = all.into_iter();
    let (first, step) = match (thorough(), all.len()) {
        (true, _) | (_, 0) => (0, 1),
        (false, len) => (turn % len, len),
    };
    all.skip(first).step_by(step)
}
