// One sequence per entry of the batch, each cut into segments.
fn span_of(index: u32) -> Span {
    let segment = index % p.segments;
    let walker = p.first_walker + index / p.segments;
    let begin = p.first_token + segment * p.segment_tokens;
    return Span(
        walker / p.state_heads,
        walker % p.state_heads,
        begin,
        min(begin + p.segment_tokens, p.first_token + p.tokens),
        0u,
        p.total,
        walker * p.slots + select(min(segment, p.slots - 1u), 0u, KEEP),
    );
}
