//! SIGINT and SIGTERM: finish the batch, then stop; a second one stops at once. SIGXFSZ: the write fails instead.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGXFSZ},
    flag,
};

use crate::model::{Error, Result};

/// What a second signal ends in, as shells have it for an interrupted command.
const EXIT_INTERRUPTED: i32 = 130;

/// A file that grows beyond `ulimit -f` ends a process without a word, unless somebody takes the signal: then the write
/// fails, and its error tells which file it was.
///
/// # Errors
/// Of kind `Failed`, where the system takes no handler.
pub fn tame() -> Result<()> {
    let nobody_asks = Arc::new(AtomicBool::new(false));
    flag::register(SIGXFSZ, nobody_asks).map(drop).map_err(|cause| not_caught(&cause))
}

fn not_caught(cause: &std::io::Error) -> Error {
    Error::failed("signals cannot be caught").because(cause.to_string())
}

/// A flag that the first signal sets.
///
/// # Errors
/// Of kind `Failed`, where the system takes no handler.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // in this order: the first signal finds the flag not yet set
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|cause| not_caught(&cause))?;
    }
    Ok(stop)
}
