// Nobody asks for the gradient of log decays.
fn cross(b: Block, lane: u32, r: u32, s: ptr<function, StateRows>, g: RowGates) {}

fn arrive(b: Block, lane: u32, r: u32, keys: Held, sums: Held, corrections: Held) {}

fn put_decay_gradient(b: Block, lane: u32, gates: ptr<function, Gates>) {}

fn close(here: Span, lane: u32) {}
