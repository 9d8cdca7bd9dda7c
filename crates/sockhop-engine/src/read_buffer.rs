//! The one buffer that all connections of a thread are read into: an idle one holds none.

use std::cell::RefCell;

/// Bytes read from a connection at once.
const READ_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    pub(crate) static READ_BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice());
}
