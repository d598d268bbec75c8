// One decay per token, head and column of the state, clamped as in `decay_head`.
// 5 log_decay: array<StateCell>, log_decay[g_offset + row * width + channel]
const DECAY: u32 = 3u;
const UNIFORM: bool = false;
@group(0) @binding(5) var<storage, read> log_decay: array<StateCell>;

fn token_log_decay(head: u32, row: u32) -> f32 {
    return 0.0;
}

fn channel_log_decay(row: u32, channel: u32, width: u32) -> vec4f {
    let left = width - channel;
    let c = state_cells(p.g_offset + row * width + channel, left);
    return max(gather_state(left, log_decay[c.x], log_decay[c.y], log_decay[c.z], log_decay[c.w]), vec4f(-200.0));
}
