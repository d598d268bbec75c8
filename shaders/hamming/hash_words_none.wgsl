// Nobody asked for words.
fn put_word(at: u32, code: u32) {}
