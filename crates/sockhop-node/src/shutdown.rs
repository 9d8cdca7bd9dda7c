//! When to stop.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGTERM or SIGINT. A second signal ends the process at once.
///
/// *Shape:* signals count from this call on, not from when the future is first polled, so that
/// one that comes during the start is not taken for an order to die.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    async move {
        match signals {
            Ok((terminate, interrupt)) => first_signal(terminate, interrupt).await,
            // Without signals the node can only be killed.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn first_signal(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // This task ends with the runtime; it is nobody's to wait for.
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        std::process::exit(130);
    });
}
