// Gradients of the state in two parts.
@group(0) @binding(3) var<storage, read> more: array<vec4f>;

fn more_of(at: u32) -> vec4f {
    return more[at];
}
