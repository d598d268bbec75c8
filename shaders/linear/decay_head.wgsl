// One decay per head. Below -200 the factor is 0 in f32, and minus infinity becomes an ordinary number.
// 5 log_decay: array<f32>, log_decay[h]
@group(0) @binding(5) var<storage, read> log_decay: array<f32>;

fn log_decay_of(head: u32) -> f32 {
    return max(log_decay[head], -200.0);
}
