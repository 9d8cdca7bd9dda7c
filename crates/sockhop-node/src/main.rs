//! The binary `sockhop`.

use std::process::ExitCode;

use clap::Parser;
use sockhop_node::{
    Cli, Logs, Node, NodeConfig, NodeError, chat, runtime, shutdown_signal, telemetry,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A variable that is no text is none of ours by its name, or is refused by its value.
    let environment = std::env::vars_os().map(|(name, value)| {
        let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
        (text(name), text(value))
    });
    if let Some(command) = &cli.command {
        return command.run(environment);
    }
    let config = match cli.config(environment) {
        Ok(config) => config,
        Err(faults) => {
            // How to log is part of what could not be read.
            eprintln!("the configuration has faults:\n{faults}");
            return ExitCode::FAILURE;
        }
    };
    let logs = telemetry::init(&config.log_filter, config.log_format);
    match run(config, &logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = String::new();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                causes.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            tracing::error!("{error}{causes}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: NodeConfig, logs: &Logs) -> Result<(), NodeError> {
    let runtime = runtime(config.workers).map_err(NodeError::Runtime)?;
    runtime.block_on(async {
        let mut node = Node::new(config)?;
        logs.register(node.registry())?;
        chat::install(&mut node);
        node.run(shutdown_signal()).await
    })
}
