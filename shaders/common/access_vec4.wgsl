// How rows are read and written when their width is a multiple of four: one vector at a time.
// `at` counts elements; `left` is how many of the row's elements start there, at least 1.
// Whether every width is a multiple of four.
const WHOLE: bool = true;

alias Cell = Vec;
alias OutCell = Vec;
alias StateCell = vec4f;

// The cells that hold elements at, at + 1, at + 2, at + 3.
fn cells(at: u32, left: u32) -> vec4u {
    return vec4u(at >> 2u);
}

fn gather(at: u32, left: u32, a: Cell, b: Cell, c: Cell, d: Cell) -> vec4f {
    return widen(a);
}

fn state_cells(at: u32, left: u32) -> vec4u {
    return vec4u(at >> 2u);
}

fn gather_state(left: u32, a: StateCell, b: StateCell, c: StateCell, d: StateCell) -> vec4f {
    return a;
}

// A vector x is written at `at` as PARTS cells: for i < min(PARTS, left), cell (at + i) >> PART_SHIFT = part(x, i).
const PARTS: u32 = 1u;
const PART_SHIFT: u32 = 2u;

fn out_part(x: vec4f, i: u32) -> OutCell {
    return narrow(x);
}

fn state_part(x: vec4f, i: u32) -> StateCell {
    return x;
}
