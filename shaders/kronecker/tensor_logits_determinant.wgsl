// Scores sum over triples of det[x, y, z] = (x × y) · z, a triple of channels a vector.
const STEP: u32 = 3u;
const SHARES: bool = false;

// What a row multiplies columns with.
fn combine(x: vec4f, y: vec4f) -> vec4f {
    return vec4f(cross(x.xyz, y.xyz), 0.0);
}

// What is added to a row's scores.
fn share(x: vec4f, y: vec4f) -> f32 {
    return 0.0;
}

// The gradient of an owner, from the sums of columns weighed by gradients of scores, and the sum of these.
fn pull(y: vec4f, sum: vec4f, total: f32) -> vec4f {
    return vec4f(cross(y.xyz, sum.xyz), 0.0);
}
