//! Where values come from: secrets in files of their own, systemd's credentials, and what
//! `--check-config` of every program says of them.

#![cfg(all(feature = "agent", feature = "collector", feature = "decider"))]
// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ceilometer_ha::config::{
    ConfigText, Draft, Inputs, Loaded, Origin, Problems, Purpose, SECRET_BYTES_MAX, SecretText,
};
use ceilometer_ha::model::Secret;

const FILE: &str = "/etc/ha/ha.conf";
const SECRET: &str = "hunter2hunter2hunter2";

fn secret_text(path: &str, text: &[u8]) -> SecretText {
    SecretText {
        path: PathBuf::from(path),
        found: Ok(text.to_vec()),
        is_public: false,
    }
}

/// Loads one file, with credentials, variables, and the secret that is in the files it names.
fn load_with(
    text: &str,
    credentials: &[SecretText],
    environment: &[(&str, &str)],
    secret: &SecretText,
) -> Result<Loaded, Problems> {
    let files = [ConfigText {
        path: PathBuf::from(FILE),
        text: text.to_owned(),
    }];
    let environment: Vec<(String, String)> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let inputs = Inputs {
        files: &files,
        credentials,
        environment: &environment,
        strict: false,
    };
    let draft = Draft::read(Purpose::Everything, &inputs)?;
    let secrets: Vec<SecretText> = draft
        .secret_files()
        .into_iter()
        .map(|path| SecretText {
            path,
            ..secret.clone()
        })
        .collect();
    draft.check("n", &secrets)
}

fn messages(result: &Result<Loaded, Problems>) -> Vec<String> {
    match result {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

// ------------------------------------------------------------------ secrets in files

#[test]
fn a_file_holds_a_secret_as_it_stands() {
    for (text, expected) in [
        ("hunter2hunter2hunter2", "hunter2hunter2hunter2"),
        ("\n  hunter2hunter2hunter2 \r\n", "hunter2hunter2hunter2"),
        ("$host-$$-\\$-${no_option}#", "$host-$$-\\$-${no_option}#"),
        ("\"quotes are a part of it\"", "\"quotes are a part of it\""),
    ] {
        let loaded = load_with(
            "[publisher]\ntelemetry_secret_file = secret\n",
            &[],
            &[],
            &secret_text("", text.as_bytes()),
        )
        .unwrap();
        assert_eq!(
            loaded.settings.telemetry_secret,
            Some(Secret::new(expected)),
            "{text:?}"
        );
        assert_eq!(loaded.warnings, [], "{text:?}");
        let [file, secret] = &loaded.options[..] else {
            panic!("{:?}", loaded.options)
        };
        let (file, secret) = if file.spec.name == "telemetry_secret" {
            (secret, file)
        } else {
            (file, secret)
        };
        assert_eq!(file.origin, Origin::File(FILE.into(), 2));
        assert_eq!(file.shown, "/etc/ha/secret");
        assert_eq!(secret.origin, Origin::SecretFile("/etc/ha/secret".into()));
        assert_eq!(secret.shown, "set, not shown");
    }
}

#[test]
fn a_database_in_a_file_starts_at_that_file() {
    let loaded = load_with(
        "[database]\nconnection_file = /run/secrets/db\n",
        &[],
        &[],
        &secret_text("", b"sqlite:///x.sqlite\n"),
    )
    .unwrap();
    assert_eq!(
        loaded.settings.database.connection,
        Secret::new("sqlite:////run/secrets/x.sqlite")
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said_at_the_option_that_names_it() {
    let broken = |found| SecretText {
        path: PathBuf::new(),
        found,
        is_public: false,
    };
    for (found, expected) in [
        (
            Err("Permission denied (os error 13)".to_owned()),
            "found /etc/ha/s, which can't be read: Permission denied (os error 13)",
        ),
        (
            Ok(b" \n".to_vec()),
            "found nothing in /etc/ha/s, expected a secret",
        ),
        (
            Ok(vec![b'x'; SECRET_BYTES_MAX + 1]),
            "found more than 65536 bytes in /etc/ha/s, expected one value",
        ),
        (
            Ok(vec![0xff]),
            "found bytes in /etc/ha/s that are no UTF-8, expected text",
        ),
    ] {
        let result = load_with(
            "[publisher]\ntelemetry_secret_file = s\n",
            &[],
            &[],
            &broken(found),
        );
        let place = format!("{FILE}:2: [publisher] telemetry_secret_file: ");
        assert_eq!(messages(&result), [place + expected]);
        assert!(result.is_err());
    }
    let fits = load_with(
        "[publisher]\ntelemetry_secret_file = s\n",
        &[],
        &[],
        &broken(Ok(vec![b'x'; SECRET_BYTES_MAX])),
    );
    assert!(fits.is_ok());
    // A text that is wrong itself is told at the file, and never shown.
    let result = load_with(
        "[database]\nconnection_file = s\n",
        &[],
        &[],
        &secret_text("", b"postgresql://u:hunter2@h/d"),
    );
    assert_eq!(
        messages(&result),
        [
            "/etc/ha/s: [database] connection: found a secret of 26 characters, expected \
          sqlite:////path or mysql+pymysql://USER:PASSWORD@HOST/DATABASE: this build has no engine \
          postgresql, it has mysql and sqlite"
        ]
    );
}

#[test]
fn a_secret_that_is_set_twice_is_refused_wherever_it_is_set() {
    let file = "[publisher]\ntelemetry_secret_file = s\n";
    let secret = || secret_text("", SECRET.as_bytes());
    let credential = [secret_text(
        "/run/credentials/publisher.telemetry_secret",
        SECRET.as_bytes(),
    )];
    let variable = [("OS_PUBLISHER__TELEMETRY_SECRET", SECRET)];
    let both = format!("{file}telemetry_secret = {SECRET}\n");
    for (result, other) in [
        (load_with(&both, &[], &[], &secret()), "/etc/ha/ha.conf:3"),
        (
            load_with(file, &credential, &[], &secret()),
            "credential publisher.telemetry_secret",
        ),
        (
            load_with(file, &[], &variable, &secret()),
            "variable OS_PUBLISHER__TELEMETRY_SECRET",
        ),
    ] {
        assert!(result.is_err());
        assert_eq!(
            messages(&result),
            [format!(
                "{FILE}:2: [publisher] telemetry_secret_file: found [publisher] telemetry_secret as \
                 well, at {other}, expected one of the two"
            )]
        );
    }
    // What is set to nothing isn't set, so a later file may take either back.
    for text in [
        "[publisher]\ntelemetry_secret_file = s\ntelemetry_secret =\n",
        "[publisher]\ntelemetry_secret_file =\ntelemetry_secret = hunter2hunter2hunter2\n",
    ] {
        let loaded = load_with(text, &[], &[], &secret()).unwrap();
        assert_eq!(loaded.settings.telemetry_secret, Some(Secret::new(SECRET)));
    }
}

/// What the file of a secret holds, by its name.
fn text_in(path: &Path) -> &'static [u8] {
    match path.to_str() {
        Some("/etc/ha/t") => b"rabbit://u:hunter2@h/v",
        _ => b"sqlite:////x/hunter2hunter2",
    }
}

#[test]
fn a_program_that_has_no_use_for_a_secret_does_not_ask_for_it() {
    let files = [ConfigText {
        path: PathBuf::from(FILE),
        text: "[DEFAULT]\ntransport_url_file = t\n[publisher]\ntelemetry_secret_file = s\n\
               [database]\nconnection_file = d\n"
            .to_owned(),
    }];
    let inputs = Inputs {
        files: &files,
        credentials: &[],
        environment: &[],
        strict: false,
    };
    for (purpose, expected) in [
        (Purpose::Agent, vec!["/etc/ha/t", "/etc/ha/s"]),
        (
            Purpose::Collector,
            vec!["/etc/ha/t", "/etc/ha/s", "/etc/ha/d"],
        ),
        (Purpose::Operator, vec!["/etc/ha/d"]),
        (Purpose::Wire, vec!["/etc/ha/t", "/etc/ha/s"]),
        (
            Purpose::Everything,
            vec!["/etc/ha/t", "/etc/ha/s", "/etc/ha/d"],
        ),
    ] {
        let draft = Draft::read(purpose, &inputs).unwrap();
        let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
        assert_eq!(draft.secret_files(), expected, "{purpose:?}");
        let secrets: Vec<SecretText> = expected
            .iter()
            .map(|path| SecretText {
                path: path.clone(),
                ..secret_text("", text_in(path))
            })
            .collect();
        let loaded = draft.check("n", &secrets).unwrap();
        assert_eq!(loaded.warnings, [], "{purpose:?}");
    }
}

// ------------------------------------------------------------------ credentials

#[test]
fn credentials_lie_above_files_and_below_variables() {
    let text = "[compute]\nping_count = 1\ncluster = file\nping_timeout = 1\n";
    let credentials = [
        secret_text("/run/credentials/compute.cluster", b"  $host \n"),
        secret_text("/run/credentials/compute.ping_count", b"2"),
        secret_text(
            "/run/credentials/DEFAULT.metering_secret",
            SECRET.as_bytes(),
        ),
    ];
    let variables = [("OS_COMPUTE__PING_COUNT", "3")];
    let loaded = load_with(text, &credentials, &variables, &secret_text("", b"")).unwrap();
    let compute = loaded.settings.compute;
    assert_eq!(compute.cluster.as_deref(), Some("$host"));
    assert_eq!(compute.ping_count, 3);
    assert_eq!(loaded.settings.telemetry_secret, Some(Secret::new(SECRET)));
    let origins: Vec<(&str, String)> = loaded
        .options
        .iter()
        .map(|option| (option.spec.name, option.origin.to_string()))
        .collect();
    assert_eq!(
        origins,
        [
            ("ping_count", "variable OS_COMPUTE__PING_COUNT".to_owned()),
            ("ping_timeout", format!("{FILE}:4")),
            ("cluster", "credential compute.cluster".to_owned()),
            (
                "telemetry_secret",
                "credential DEFAULT.metering_secret".to_owned()
            ),
        ]
    );
}

#[test]
fn a_wrong_credential_is_told_by_its_name() {
    let credentials = [
        secret_text("/c/publisher.telemetry_secrt", SECRET.as_bytes()),
        secret_text("/c/tls-key", &[0xff]),
        secret_text("/c/compute.ping_count", b"hunter"),
        secret_text("/c/compute.cluster", &[0xff]),
    ];
    let result = load_with("", &credentials, &[], &secret_text("", b""));
    assert_eq!(
        messages(&result),
        [
            "credential publisher.telemetry_secrt: unknown credential, expected the name \
             <group>.<option>; the nearest known one is publisher.telemetry_secret",
            "credential tls-key: unknown credential, expected the name <group>.<option>",
            "[compute] cluster from credential compute.cluster: found bytes in /c/compute.cluster \
             that are no UTF-8, expected text",
            "[compute] ping_count from credential compute.ping_count: found \"hunter\", expected a \
             whole number from 1 to 100",
        ]
    );
}

// ------------------------------------------------------------------ what is shown

#[test]
fn an_option_that_refers_to_a_secret_is_not_shown_either() {
    let loaded = load_with(
        "[DEFAULT]\nhost = x$publisher.telemetry_secret\n[compute]\ncluster = $DEFAULT.host\n\
         [publisher]\ntelemetry_secret = hunter2hunter2hunter2\n[ipmi]\ncommand = ipmitool -P hunter2\n\
         [plugins]\npollster = raid nagios /opt/check -p hunter2\n",
        &[],
        &[],
        &secret_text("", b""),
    )
    .unwrap();
    let shown: Vec<(&str, &str)> = loaded
        .options
        .iter()
        .map(|option| (option.spec.name, option.shown.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("host", "set, not shown"),
            ("cluster", "set, not shown"),
            ("pollster", "raid nagios /opt/check, 2 arguments not shown"),
            ("command", "ipmitool, 2 arguments not shown"),
            ("telemetry_secret", "set, not shown"),
        ]
    );
    assert!(!format!("{:?}", loaded.options).contains("hunter2"));
}

#[test]
fn what_is_set_to_its_default_is_known_as_such() {
    let loaded = load_with(
        "[DEFAULT]\nstate_path = /s\ndebug = no\npipeline_cfg_file = pipeline_ha.yaml\n\
         [compute]\nping_timeout = 0.50\nping_count = 5\ncluster = a\\tb\u{1b}[2J\n\
         [database]\nconnection = sqlite:////s/ceilometer_ha.sqlite\n",
        &[],
        &[],
        &secret_text("", b""),
    )
    .unwrap();
    let found: Vec<(&str, bool, &str)> = loaded
        .options
        .iter()
        .map(|option| (option.spec.name, option.is_default, option.shown.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("pipeline_cfg_file", true, "/etc/ha/pipeline_ha.yaml"),
            ("state_path", false, "/s"),
            ("debug", true, "false"),
            ("ping_count", false, "5"),
            ("ping_timeout", true, "0.5"),
            ("cluster", false, "a\\tb\\u{1b}[2J"),
            ("connection", true, "set, not shown"),
        ]
    );
}

#[test]
fn a_database_is_shown_without_its_password() {
    let settings = |url: &str| {
        let text = "[database]\nconnection = sqlite:////x\n";
        let mut loaded = load_with(text, &[], &[], &secret_text("", b"")).unwrap();
        loaded.settings.database.connection = Secret::new(url);
        loaded.settings.database.shown()
    };
    for (url, shown) in [
        ("sqlite:////x/y.sqlite", "sqlite:////x/y.sqlite"),
        ("sqlite:////x?key=hunter2", "sqlite:////x"),
        ("mysql://u:hunter2@h/d?charset=utf8", "mysql://u@h:3306/d"),
        ("mysql://u:p@hunter2@h/d", "mysql://u@h:3306/d"),
        ("mysql://u:p?hunter2@h/d", "mysql://u@h:3306/d"),
        ("mysql://u:p@x?hunter2@h/d", "of another kind"),
        (
            "mysql+pymysql://u@h:1,[::1]/d",
            "mysql://u@h:1,[::1]:3306/d",
        ),
        ("hunter2", "of another kind"),
    ] {
        assert_eq!(settings(url), shown, "{url}");
    }
}

// ------------------------------------------------------------------ the programs

/// Files of a small installation in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(configuration: &str) -> Self {
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
        };
        site.write("ha.conf", configuration);
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline_ha.yaml");
        site.write("pipeline_ha.yaml", &fs::read_to_string(sample).unwrap());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    /// What a program prints with `--check-config`, the folder called `~`.
    fn check(&self, program: &str, more: &[&str]) -> (Option<i32>, String, String) {
        self.run(Command::new(program).args(more).env_clear())
    }

    fn run(&self, command: &mut Command) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(["--check-config", "--config-file"])
            .arg(self.path("ha.conf"))
            .output()
            .unwrap();
        let text = |bytes| {
            let folder = self.folder.path().to_str().unwrap();
            String::from_utf8(bytes).unwrap().replace(folder, "~")
        };
        (status.code(), text(stdout), text(stderr))
    }
}

const AGENT: &str = env!("CARGO_BIN_EXE_ceilometer-polling-ha");
const COLLECTOR: &str = env!("CARGO_BIN_EXE_ceilometer-collector-ha");
const OPERATOR: &str = env!("CARGO_BIN_EXE_compute-ha");
const STANDALONE: &str = env!("CARGO_BIN_EXE_ceilometer-ha-standalone");

const CONFIGURATION: &str = "\
[DEFAULT]
host = node-1
state_path = state
log_dir = /var/log/ha
log_file = ha.log
use_syslog = yes
[compute]
storage_server_address = 10.0.0.1, 10.0.0.2
ping_timeout = 2
cluster =
[collector]
udp_address = 127.0.0.1
[database]
metering_time_to_live = 3600
[publisher]
telemetry_secret_file = secret
[plugins]
pollster = raid nagios /opt/check -p hunter2
";

/// Every program's plan beside the configuration; `BLESS=1` writes them anew.
#[test]
fn every_program_says_what_would_be_in_force() {
    let site = Site::new(CONFIGURATION);
    site.write("secret", "hunter2hunter2hunter2\n");
    for (name, program, arguments) in [
        ("agent", AGENT, &[][..]),
        ("collector", COLLECTOR, &[]),
        ("dbsync", COLLECTOR, &["dbsync"]),
        ("status", OPERATOR, &["status"]),
        ("standalone", STANDALONE, &[]),
    ] {
        let (code, said, complaints) = site.check(program, arguments);
        assert_eq!(code, Some(0), "{name}: {complaints}");
        assert_eq!(complaints, "", "{name}");
        assert!(!said.contains("hunter2"), "{name}: {said}");
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/config/plan")
            .join(format!("{name}.txt"));
        // Which libvirt a standalone asks is for its machine to say.
        let said = said.replace("test:///default", "qemu:///system");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &said).unwrap();
        }
        assert_eq!(said, fs::read_to_string(file).unwrap_or_default(), "{name}");
    }
}

#[test]
fn without_any_option_the_plan_says_so() {
    let site = Site::new("");
    let (code, said, _) = site.check(OPERATOR, &["status"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        said,
        "database sqlite:////var/lib/ceilometer-ha/ceilometer_ha.sqlite\nevery option has its \
         default\n"
    );
}

#[test]
fn a_program_reads_directories_credentials_and_secrets() {
    let site = Site::new("[compute]\nping_count = 1\ncluster = a\n");
    site.write(
        "conf.d/10.conf",
        "[compute]\ncluster = b\nping_interval = 0.2\n",
    );
    site.write("conf.d/20.conf", "[compute]\ncluster = c\n");
    site.write("conf.d/.30.conf", "[compute]\ncluster = hidden\n");
    site.write("conf.d/40.conf.bak", "[compute]\ncluster = backup\n");
    site.write("more.conf", "[publisher]\ntelemetry_secret_file = secret\n");
    site.write("secret", SECRET);
    let public = Permissions::from_mode(0o644);
    fs::set_permissions(site.path("secret"), public).unwrap();
    site.write("credentials/compute.ping_interval", "0.3\n");
    site.write("credentials/compute.ping_intervl", "0.3\n");
    let mut command = Command::new(AGENT);
    command
        .env_clear()
        .env("OS_COMPUTE__PING_COUNT", "7")
        .env("CREDENTIALS_DIRECTORY", site.path("credentials"))
        .arg("--config-dir")
        .arg(site.path("conf.d"));
    let (code, said, complaints) =
        site.run(command.arg("--config-file").arg(site.path("more.conf")));
    assert_eq!(code, Some(0), "{complaints}");
    let (_, options) = said
        .split_once("options that differ from their default\n")
        .unwrap();
    assert_eq!(
        options,
        "  [compute] ping_count = 7\n    default 4, set in variable OS_COMPUTE__PING_COUNT\n  \
         [compute] ping_interval = 0.3\n    default 0.1, set in credential compute.ping_interval\n  \
         [compute] cluster = c\n    default nothing, set in ~/conf.d/20.conf:2\n  \
         [publisher] telemetry_secret = set, not shown\n    default nothing, set in ~/secret\n  \
         [publisher] telemetry_secret_file = ~/secret\n    default nothing, set in ~/more.conf:2\n"
    );
    assert_eq!(
        complaints,
        "warning: ~/more.conf:2: [publisher] telemetry_secret_file: every user may read ~/secret, \
         better its owner alone: chmod 600\nwarning: credential compute.ping_intervl: unknown \
         credential, expected the name <group>.<option>; the nearest known one is \
         compute.ping_interval\n"
    );
}

#[test]
fn a_pipe_for_a_secret_is_refused_and_never_waited_for() {
    let site = Site::new("[publisher]\ntelemetry_secret_file = pipe\n");
    nix::unistd::mkfifo(&site.path("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let (code, _, complaints) = site.check(AGENT, &[]);
    assert_eq!(code, Some(2));
    assert!(
        complaints.contains("found ~/pipe, which can't be read: it is no regular file"),
        "{complaints}"
    );
}
