//! The command `cognigy`: the clients, the probe, the templates and the signatures of this workspace, from a shell.
//!
//! Results go to stdout, one a line; everything else to stderr. The exit status is 0 if all that was asked for was done, 1
//! if something was refused, failed or is not as it should be, and 2 if the command or a file is not right.

mod api;
mod captured;
mod messages;
mod output;
mod render;
mod webhooks;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use messages::Way;
use output::{Failure, Output};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cognigy",
    version,
    about = "Registers, lists, changes and tests Cognigy webhooks",
    after_long_help = "The commands register, list and patch speak the webhook API of five tutorials, which is not part of the \
        official platform; send, inject and notify speak to its endpoints.\n\n\
        Exit status: 0 all was done; 1 something was refused or failed, or a signature is wrong; 2 the command or a file \
        is not right.\n\n\
        Secrets are better given in the environment than as flags, which others on this machine can see."
)]
struct Cli {
    /// Write results, and the error, as JSON, one document a line.
    #[arg(long, global = true)]
    json: bool,

    /// Show no progress bar. Without the flag there is one where stderr is a terminal.
    #[arg(long, global = true)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register webhooks from files, in any of the three documented forms.
    Register(webhooks::Register),
    /// List the webhooks of a bot.
    List(webhooks::List),
    /// Set the retry policy of a webhook.
    Patch(webhooks::Patch),
    /// Ask targets whether they can be reached, and with which version of TLS.
    Probe(webhooks::Targets),
    /// Send a message to a flow, as its user, and print what it says.
    Send(messages::Send),
    /// Send a message to a flow from outside of its conversation.
    Inject(messages::Send),
    /// Send a message to the user of a flow.
    Notify(messages::Send),
    /// Render a template against an event, and send nothing.
    Render(render::Render),
    /// Verify the signature of a captured request.
    Verify(captured::Verify),
    /// Write the completions of a shell to stdout.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output {
        json: cli.json,
        quiet: cli.quiet,
    };
    let done = match cli.command {
        Command::Register(args) => args.run(&output).await,
        Command::List(args) => args.run(&output).await,
        Command::Patch(args) => args.run(&output).await,
        Command::Probe(args) => args.run(&output).await,
        Command::Send(args) => args.run(Way::Send, &output).await,
        Command::Inject(args) => args.run(Way::Inject, &output).await,
        Command::Notify(args) => args.run(Way::Notify, &output).await,
        Command::Render(args) => args.run(&output).await,
        Command::Verify(args) => args.run(&output),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cognigy", &mut text);
            output::write(&text)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            failure.status()
        }
    }
}

/// Tells what is wrong with the command line, or writes the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let output = Output {
        json: std::env::args_os().any(|arg| arg == "--json"),
        quiet: true,
    };
    if error.use_stderr() && output.json {
        let failure = Failure::usage(error.to_string().trim_end().to_owned());
        output.fail(&failure);
        return failure.status();
    }
    // Where nobody reads it, nothing is to be told.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

impl From<tower_webhook::InvalidConfig> for Failure {
    fn from(error: tower_webhook::InvalidConfig) -> Self {
        Self::usage(error.to_string())
    }
}
