//! Runs `verify.py`, Ceilometer's own signing code, beside ours.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ceilometer_ha::model::Secret;

/// The secret that the script signs and verifies with.
pub(crate) fn secret() -> Secret {
    Secret::new("a secret of the tests")
}

/// The Python that has Ceilometer: the one that `CEILOMETER_HA_TEST_PYTHON` names, or that of the
/// environment which `scripts/install-test-parts` makes.
pub(crate) fn python() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("CEILOMETER_HA_TEST_PYTHON")
        .map_or_else(|| root.join("target/test-venv/bin/python"), PathBuf::from);
    if python.exists() {
        return Ok(python);
    }
    Err(format!(
        "there is no {}: run scripts/install-test-parts, or set CEILOMETER_HA_TEST_PYTHON to a \
         Python that has ceilometer and msgpack",
        python.display()
    ))
}

/// Runs the script with these arguments and this standard input, and reads the JSON that it says.
pub(crate) fn run(arguments: &[&str], input: &str) -> Result<serde_json::Value, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ceilometer/verify.py");
    let mut child = Command::new(python()?)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start verify.py: {error}"))?;
    // The script reads all of its input before it says anything, so this can't block for ever.
    let mut stdin = child.stdin.take().ok_or("verify.py has no input")?;
    stdin
        .write_all(input.as_bytes())
        .map_err(|error| format!("cannot write to verify.py: {error}"))?;
    drop(stdin);
    let output = child
        .wait_with_output()
        .map_err(|error| format!("cannot read from verify.py: {error}"))?;
    if !output.status.success() {
        return Err(format!("verify.py ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("verify.py said: {error}"))
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
