// Scores x·y + x·z + y·z = (x + y) · z + x·y, channels in fours.
const STEP: u32 = 4u;
const SHARES: bool = true;

// What a row multiplies columns with.
fn combine(x: vec4f, y: vec4f) -> vec4f {
    return x + y;
}

// What is added to a row's scores.
fn share(x: vec4f, y: vec4f) -> f32 {
    return dot(x, y);
}

// The gradient of an owner, from the sums of columns weighed by gradients of scores, and the sum of these.
fn pull(y: vec4f, sum: vec4f, total: f32) -> vec4f {
    return fma(vec4f(total), y, sum);
}
