// One decay per token and head, clamped as in `decay_head`.
// 5 log_decay: array<f32>, log_decay[g_offset + row]
const DECAY: u32 = 1u;
const UNIFORM: bool = false;
@group(0) @binding(5) var<storage, read> log_decay: array<f32>;

fn token_log_decay(head: u32, row: u32) -> f32 {
    return max(log_decay[p.g_offset + row], -200.0);
}

fn channel_log_decay(row: u32, channel: u32, width: u32) -> vec4f {
    return vec4f();
}
