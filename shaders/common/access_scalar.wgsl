// How rows are read and written when their width is not a multiple of four: element by element.
// `at` counts elements; `left` is how many of the row's elements start there, at least 1. Outputs are f32: two
// invocations must not write halves of one word.
// Whether every width is a multiple of four.
const WHOLE: bool = false;

alias Cell = One;
alias OutCell = f32;
alias StateCell = f32;

// The cells that hold elements at, at + 1, at + 2, at + 3; those past the row repeat its last.
fn cells(at: u32, left: u32) -> vec4u {
    return (vec4u(at) + min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u))) >> vec4u(ONES_SHIFT);
}

fn gather(at: u32, left: u32, a: Cell, b: Cell, c: Cell, d: Cell) -> vec4f {
    let x = vec4f(widen_one(a, at), widen_one(b, at + 1u), widen_one(c, at + 2u), widen_one(d, at + 3u));
    return select(vec4f(), x, vec4u(0u, 1u, 2u, 3u) < vec4u(left));
}

fn state_cells(at: u32, left: u32) -> vec4u {
    return vec4u(at) + min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u));
}

fn gather_state(left: u32, a: StateCell, b: StateCell, c: StateCell, d: StateCell) -> vec4f {
    return select(vec4f(), vec4f(a, b, c, d), vec4u(0u, 1u, 2u, 3u) < vec4u(left));
}

// A vector x is written at `at` as PARTS cells: for i < min(PARTS, left), cell (at + i) >> PART_SHIFT = part(x, i).
const PARTS: u32 = 4u;
const PART_SHIFT: u32 = 0u;

fn out_part(x: vec4f, i: u32) -> OutCell {
    return x[i];
}

fn state_part(x: vec4f, i: u32) -> StateCell {
    return x[i];
}
