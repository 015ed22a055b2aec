//! The Pulsewire binary.
fn main() {}
