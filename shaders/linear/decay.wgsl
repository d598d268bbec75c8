// Kinds of decay, as `DECAY` of the decay parts says: a factor per token and walker, per row of the state, per column.
const DECAY_SCALAR: u32 = 1u;
const DECAY_ROWS: u32 = 2u;
const DECAY_COLUMNS: u32 = 3u;
// `UNIFORM` says that all tokens of a walker have one log decay.
