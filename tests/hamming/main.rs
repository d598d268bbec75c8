//! Operators on binary codes, by operator.

mod attention;
