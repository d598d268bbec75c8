// The decay of a first token.
@group(0) @binding(4) var<storage, read> log_decay: array<f32>;

fn first_log_decay(row: u32, head: u32, channel: u32) -> f32 {
    var at = head;
    if (PER == 1u) {
        at = row;
    }
    if (PER == 2u) {
        at = row * p.key + channel;
    }
    return max(log_decay[at], -200.0);
}
