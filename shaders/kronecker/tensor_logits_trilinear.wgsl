// Scores sum_d x_d y_d z_d = (x ∘ y) · z, channels in fours.
const STEP: u32 = 4u;
const SHARES: bool = false;

// What a row multiplies columns with.
fn combine(x: vec4f, y: vec4f) -> vec4f {
    return x * y;
}

// What is added to a row's scores.
fn share(x: vec4f, y: vec4f) -> f32 {
    return 0.0;
}

// The gradient of an owner, from the sums of columns weighed by gradients of scores, and the sum of these.
fn pull(y: vec4f, sum: vec4f, total: f32) -> vec4f {
    return y * sum;
}
