// The other factor lies apart.
@group(0) @binding(0) var<storage, read> a: array<f32>;

fn other(item: u32) -> f32 {
    return a[item];
}
