// Which kernel a channel of a head has: CHANNELS 0, its own; 1, that of its number in the head; 2, that of the head.
fn channel_of(head: u32, v: u32) -> u32 {
    return select(select(head, v, CHANNELS == 1u), head * p.key + v, CHANNELS == 0u);
}
