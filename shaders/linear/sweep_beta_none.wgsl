// Nobody asks for the gradient of beta.
fn put_beta_gradient(b: Block, lane: u32, du: ptr<function, OfTokens>) {}
