//! Unpredictable numbers from the operating system.

use std::io::Read as _;

/// Random bytes read at a time.
const BLOCK: usize = 512;

/// A source of numbers that nobody can guess: for session ids, epochs and spreading.
///
/// # Errors
///
/// If the system's random device cannot be opened or read.
pub fn source() -> std::io::Result<Box<dyn FnMut() -> u64 + Send>> {
    let mut device = std::fs::File::open("/dev/urandom")?;
    let mut block = [0; BLOCK];
    device.read_exact(&mut block)?;
    let mut used = 0;
    Ok(Box::new(move || {
        if used == BLOCK {
            device.read_exact(&mut block).expect("the random device was readable and stays so");
            used = 0;
        }
        let mut number = [0; 8];
        number.copy_from_slice(&block[used..used + 8]);
        used += 8;
        u64::from_le_bytes(number)
    }))
}
