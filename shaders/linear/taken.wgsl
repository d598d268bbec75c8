// What the corrections of the delta rule took.
@group(0) @binding(1) var<storage, read> taken: array<f32>;

fn taken_of(at: u32) -> f32 {
    return taken[at];
}
