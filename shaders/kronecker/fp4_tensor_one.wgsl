// The tensor has no scale of its own.
fn tensor_scale() -> f32 {
    return 1.0;
}
