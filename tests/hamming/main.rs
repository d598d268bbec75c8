//! Operators on binary codes, by operator.
