//! Softmax attention over short binary codes, exact and linear in the number of tokens.
//!
//! ```text
//! o_i = Σ_j w_ij v_j / Σ_j w_ij        w_ij = exp(Σ_r β_r h_ir g_jr)        h = 2 bit - 1 of q, g of k
//! ```
//!
//! over all j, or over j <= i where causal. With one β for all bits the exponent is β (b - 2 d), d the Hamming distance: this is the
//! softmax of `hamming_attention` on codes of at most [`MAX_BITS`] bits, without its N² pairs.
//!
//! The weight is a product over bits. Over all 2^b codes the matrix of weights is the Kronecker product of
//! [[e^β, e^-β], [e^-β, e^β]], one factor a bit. The full form sums the rows (v_j, 1) of keys with equal codes into a table of 2^b
//! rows, multiplies it by that product with [`kronecker::butterfly()`](crate::kronecker::butterfly()), b stages instead of 4^b
//! weights, and every query divides the row of its code by its last column. No maximum is needed: all weights are positive and at
//! most 1, at least e^-80.
//!
//! The causal form keeps a half-transformed table: in row (x, y), x the high half of the bits, the sum over earlier keys whose low
//! half is y of their rows times the weight of the difference in the high half. A key adds to 2^⌈b/2⌉ rows, a query sums 2^⌊b/2⌋:
//! the time a token is constant. Such tables are the state that [`forward`] hands over and [`step`] moves on.
//!
//! **When it wins.** The full form costs N (V + 1) for the sums, 2 b 2^b (V + 1) for the table and N V for the queries, against
//! N² (V + 2): with b = 12 from some thousands of tokens on a software adapter, with b = 16 from some ten thousands.
//! The causal form costs N 2^(b/2 + 1) (V + 1) against N² V / 2 and runs its chunks one after the other: it wants many tokens, or a
//! state that does not grow. **When it loses:** on few tokens, on long codes (b <= 18, a table has 2^b rows), and where something
//! acts on pairs: windows, biases of pairs, scales of tokens. [`cost_ms`] says which to take.
//!
//! **Accuracy.** |error| <= 4 u (b + log2 T) Σ_j P_ij |v_j|, u = 2^-24, for every element of o, P the softmax. Deterministic: the keys
//! of a code are summed in a fixed order, whatever they are, and two runs are bit-equal.
//!
//! Sources: that a convolution over XOR is a product of Walsh-Hadamard type is textbook, as is splitting a sum over codes in two
//! halves; nothing here is claimed as new. RACE Attention (arXiv 2510.04008) is the nearest published relative: it approximates
//! with learned hash codes what this computes exactly for codes that are given. No trained model known to us uses a softmax over
//! so short codes; EcoFormer's carry a linear weight. [`cpu::code_table`](crate::hamming::cpu::code_table) is the f64 reference.

mod call;
#[cfg(feature = "cli")]
pub(crate) mod cases;
mod cost;
mod kernels;
pub mod plan;
mod shape;

pub use call::{
    Gradients, Inputs, Outputs, backward, forward, record, record_backward, record_step, step,
};
pub use cost::cost_ms;
pub(crate) use shape::bit_weights;
pub use shape::{MAX_BITS, MAX_CHUNK, MAX_RANGE, MAX_VALUE, Options, Shape};

pub(crate) const OP: &str = "code_table_attention";
