// No decay.
fn first_log_decay(row: u32, head: u32, channel: u32) -> f32 {
    return 0.0;
}
