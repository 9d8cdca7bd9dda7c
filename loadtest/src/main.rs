//! The program `sockhop-loadtest`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sockhop_loadtest::fail_if::FailIf;
use sockhop_loadtest::options::Options;
use sockhop_loadtest::plan::Plan;
use sockhop_loadtest::report::Report;
use sockhop_loadtest::scenario::SCENARIOS;
use sockhop_loadtest::{compare, html, run, table};

/// Load tests of Socket.IO servers that account for every message.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario
    Run {
        /// The scenario, or a TOML file that names one; `list` tells them
        scenario: String,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Compares the JSON of two runs
    Compare {
        /// The earlier run, or the other server
        a: PathBuf,
        /// The later run
        b: PathBuf,
    },
    /// Writes the HTML of a run again from its JSON
    Html {
        /// The run
        json: PathBuf,
        /// The page
        html: PathBuf,
    },
    /// Lists the scenarios
    List,
}

fn main() -> ExitCode {
    match work(Cli::parse().command) {
        Ok(code) => code,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "sockhop-loadtest: {fault}");
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) {
    let _ = write!(std::io::stdout().lock(), "{text}");
}

fn work(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::List => {
            for (name, purpose) in SCENARIOS {
                say(&format!("{name:<16} {purpose}\n"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { scenario, options } => run_scenario(&scenario, *options),
        Command::Compare { a, b } => {
            say(&compare::render(&read(&a)?, &read(&b)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Html { json, html } => {
            write_file(&html, &html::render(&read(&json)?))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_scenario(scenario: &str, options: Options) -> Result<ExitCode, String> {
    let (name, options) = if scenario.ends_with(".toml") {
        let (name, below) = Options::read(&PathBuf::from(scenario))?;
        let name = name.ok_or_else(|| format!("{scenario}: it names no scenario"))?;
        (name, options.over(below))
    } else {
        (scenario.to_owned(), options)
    };
    let plan = Plan::new(&name, options)?;
    let known = Report::default().metrics();
    for condition in &plan.options.fail_if {
        FailIf::parse(condition, &known)?;
    }
    let (json, html) = (plan.options.json.clone(), plan.options.html.clone());
    let report = run::run(plan)?;
    say(&table::render(&report));
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        write_file(&path, &text)?;
    }
    if let Some(path) = html {
        write_file(&path, &html::render(&report))?;
    }
    Ok(if report.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Report, String> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
    serde_json::from_str(&text).map_err(|error| fault(&error))
}
