// No decay.
const DECAY: u32 = 0u;
const UNIFORM: bool = true;

fn token_log_decay(head: u32, row: u32) -> f32 {
    return 0.0;
}

fn channel_log_decay(row: u32, channel: u32, width: u32) -> vec4f {
    return vec4f();
}
