//! The program under test.

use std::process::{Command, Stdio};

/// A command that runs the gateway with nothing of this process's environment that it would read.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-webhook-gateway"));
    command.stdin(Stdio::null());
    for variable in [
        "COGNIGY_WEBHOOK_SECRET",
        "DOWNSTREAM_BEARER_TOKEN",
        "GATEWAY_ALLOW_PRIVATE",
        "GATEWAY_ATTEMPT_TIMEOUT_MS",
        "GATEWAY_BASE_DELAY_MS",
        "GATEWAY_BODY_BUDGET",
        "GATEWAY_BREAKER_FAILURES",
        "GATEWAY_BREAKER_OPEN_MS",
        "GATEWAY_DEAD_LETTERS",
        "GATEWAY_DEGRADED_AT",
        "GATEWAY_CREDENTIALS",
        "GATEWAY_DOWNSTREAM",
        "GATEWAY_DOWNSTREAM_CLIENT",
        "GATEWAY_DOWNSTREAM_SCOPES",
        "GATEWAY_DOWNSTREAM_TOKEN_URL",
        "GATEWAY_ENDPOINT_AUTH",
        "GATEWAY_FALLBACK_URLS",
        "GATEWAY_LISTEN",
        "GATEWAY_LOG",
        "GATEWAY_LOOP_MARK",
        "GATEWAY_MAX_ATTEMPTS",
        "GATEWAY_MAX_BODY",
        "GATEWAY_MAX_DELAY_MS",
        "GATEWAY_MAX_EVENT_BYTES",
        "GATEWAY_MAX_KEYS",
        "GATEWAY_OPERATOR_TOKEN",
        "GATEWAY_QUEUE",
        "GATEWAY_ROUTES",
        "GATEWAY_SIGNATURE",
        "GATEWAY_STORE",
        "GATEWAY_TRUSTED_PROXIES",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}
