//! What a line does, number by number.
