// One decay per head. Below -200 the factor is 0 in f32, and minus infinity becomes an ordinary number.
// 5 log_decay: array<f32>, log_decay[h]
const DECAY: u32 = 1u;
const UNIFORM: bool = true;
@group(0) @binding(5) var<storage, read> log_decay: array<f32>;

fn token_log_decay(head: u32, row: u32) -> f32 {
    return max(log_decay[head], -200.0);
}

fn channel_log_decay(row: u32, channel: u32, width: u32) -> vec4f {
    return vec4f();
}
