// 6 y: array<StateCell>, solutions: y[head*y_stride + a*y_row + c]
@group(0) @binding(6) var<storage, read> y: array<StateCell>;

// The part from column `from` on, `value` wide.
fn load_y(here: Place, a: u32, begin: u32, channel: u32) -> vec4f {
    let live = a < p.landmarks && channel < p.value;
    let at = here.head * p.y_stride + select(0u, a, live) * p.y_row + begin + select(0u, channel, live);
    let left = select(1u, p.value - channel, live);
    let c = state_cells(at, left);
    return select(vec4f(), gather_state(left, y[c.x], y[c.y], y[c.z], y[c.w]), live);
}
