//! Runs Ceilometer's own code beside ours: `verify.py` signs and verifies, `instances.py` discovers
//! instances.

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

/// Runs `verify.py` with these arguments and this standard input, and reads the JSON that it says.
pub(crate) fn run(arguments: &[&str], input: &str) -> Result<serde_json::Value, String> {
    run_script("verify.py", arguments, input)
}

/// Runs a script of this folder with these arguments and this standard input, and reads the JSON that
/// it says.
pub(crate) fn run_script(
    name: &str,
    arguments: &[&str],
    input: &str,
) -> Result<serde_json::Value, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ceilometer");
    let mut child = Command::new(python()?)
        .arg(folder.join(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    // The scripts read all of their input before they say anything, so this can't block for ever.
    let mut stdin = child.stdin.take().ok_or(format!("{name} has no input"))?;
    stdin
        .write_all(input.as_bytes())
        .map_err(|error| format!("cannot write to {name}: {error}"))?;
    drop(stdin);
    let output = child
        .wait_with_output()
        .map_err(|error| format!("cannot read from {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{name} said: {error}"))
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
