//! Pure. The URL of a database as SQLAlchemy writes it, and MySQL's options as PyMySQL and
//! mysqlclient name them.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::kinds::is_host_name;
use crate::model::Secret;

/// How many servers one connection may name. Clusters have three or five; each that is dead costs five
/// seconds on the way to the next.
pub const ENDPOINTS_MAX: usize = 16;

/// The port of MySQL and MariaDB.
const MYSQL_PORT: u16 = 3306;

/// What a URL looks like, for messages.
const EXPECTED: &str = "sqlite:////path or mysql+pymysql://USER:PASSWORD@HOST/DATABASE";

/// Engines of SQLAlchemy, which may be named in a message: a word before `://` that isn't one of
/// them may be anything.
const FOREIGN_ENGINES: &[&str] = &[
    "postgresql",
    "postgres",
    "mongodb",
    "oracle",
    "mssql",
    "db2",
    "hbase",
    "es",
];

/// A database that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// SQLite's file.
    Sqlite(PathBuf),
    /// A database of MySQL or MariaDB.
    Mysql(MysqlConnection),
}

/// A database of MySQL or MariaDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlConnection {
    /// Who logs in.
    pub user: String,
    /// With which password, if any.
    pub password: Option<Secret>,
    /// Where its servers are, in the order in which they are tried; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The database's name.
    pub database: String,
    /// Whether and how TLS is used over TCP.
    pub tls: Tls,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// At a host name or an address without brackets, and a port.
    Tcp(String, u16),
    /// At a Unix socket.
    Unix(PathBuf),
}

/// TLS with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much of it must be proven.
    pub mode: TlsMode,
    /// A file of certificates that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// Files with our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How much of TLS must be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Off,
    /// If the server can; it proves nothing.
    Preferred,
    /// Always, but the server proves nothing.
    Required,
    /// The server's certificate is signed by somebody trusted.
    VerifyCa,
    /// And it is of the host that was connected to.
    VerifyIdentity,
}

/// What would have been right. It repeats nothing of the URL but the names of options and engines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectionError(String);

impl Connection {
    /// Reads a URL.
    ///
    /// A password may hold `@`, but not both that and `?`, unless they are written `%40` and `%3F`.
    pub fn parse(url: &str) -> Result<Connection, ConnectionError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(EXPECTED))?;
        match scheme.split('+').next().unwrap_or_default() {
            "sqlite" => sqlite(rest).map(Connection::Sqlite),
            "mysql" | "mariadb" => mysql(rest).map(Connection::Mysql),
            engine if FOREIGN_ENGINES.contains(&engine) => Err(wrong(format!(
                "{EXPECTED}: this build has no engine {engine}, it has mysql and sqlite"
            ))),
            _ => Err(wrong(EXPECTED)),
        }
    }

    /// The URL with a relative path of SQLite's taken from `base`. The rest stays as it is.
    pub(super) fn based(url: &str, base: &Path) -> Result<Secret, ConnectionError> {
        let Connection::Sqlite(file) = Connection::parse(url)? else {
            return Ok(Secret::new(url));
        };
        let query = url
            .split_once('?')
            .map_or(String::new(), |(_, query)| format!("?{query}"));
        let file = base.join(file);
        Ok(Secret::new(format!(
            "sqlite:///{}{query}",
            file.to_string_lossy()
        )))
    }
}

impl fmt::Display for Connection {
    /// As a URL for people: without a password and without options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connection::Sqlite(file) => write!(f, "sqlite:///{}", file.display()),
            Connection::Mysql(mysql) => {
                write!(f, "mysql://{}@", mysql.user)?;
                for (index, endpoint) in mysql.endpoints.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{endpoint}")?;
                }
                write!(f, "/{}", mysql.database)
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp(host, port) => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn wrong(expected: impl Into<String>) -> ConnectionError {
    ConnectionError(expected.into())
}

fn sqlite(rest: &str) -> Result<PathBuf, ConnectionError> {
    let file = rest.split('?').next().unwrap_or(rest);
    match file.strip_prefix('/') {
        Some(":memory:") => Err(wrong(
            "sqlite:////path: a database in memory ends with the process that made it",
        )),
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(wrong("sqlite:////absolute/path or sqlite:///relative/path")),
    }
}

fn mysql(rest: &str) -> Result<MysqlConnection, ConnectionError> {
    let (user, password, rest) = split_login(rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let options = Options::read(query)?;
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or_else(|| wrong("a user before @: mysql+pymysql://USER:PASSWORD@HOST/DATABASE"))?;
    if database.is_empty() || database.contains('/') {
        return Err(wrong(
            "one database behind the host: mysql+pymysql://USER:PASSWORD@HOST/DATABASE",
        ));
    }
    let endpoints = match options.socket.clone() {
        Some(path) => vec![Endpoint::Unix(path)],
        None => endpoints(hosts, &options.hosts)?,
    };
    Ok(MysqlConnection {
        user: decoded(user, false, "the user")?,
        password: password
            .map(|password| decoded(password, false, "the password"))
            .transpose()?
            .map(Secret::new),
        endpoints,
        database: database.to_owned(),
        tls: options.tls()?,
    })
}

/// User, password, and what comes behind `@`.
fn split_login(rest: &str) -> (Option<&str>, Option<&str>, &str) {
    let Some((at, sign)) = rest
        .char_indices()
        .find(|(_, c)| matches!(c, ':' | '/' | '@' | '?' | '['))
    else {
        return (None, None, rest);
    };
    let (user, behind) = rest.split_at(at);
    let behind = behind.get(1..).unwrap_or_default();
    match sign {
        '@' => (Some(user), None, behind),
        ':' => {
            let before_query = behind.split('?').next().unwrap_or(behind);
            let end = before_query.rfind('@').or_else(|| behind.rfind('@'));
            match end.and_then(|end| behind.split_at_checked(end)) {
                Some((password, place)) => (
                    Some(user),
                    Some(password),
                    place.strip_prefix('@').unwrap_or(place),
                ),
                None => (None, None, rest),
            }
        }
        _ => (None, None, rest),
    }
}

/// Hosts divided by commas, as MariaDB's connectors take them, and SQLAlchemy's repeated `host`.
fn endpoints(hosts: &str, more: &[String]) -> Result<Vec<Endpoint>, ConnectionError> {
    let listed = hosts.split(',').filter(|host| !host.is_empty());
    let mut endpoints = listed
        .chain(more.iter().map(String::as_str))
        .map(tcp)
        .collect::<Result<Vec<_>, _>>()?;
    if endpoints.is_empty() {
        endpoints.push(Endpoint::Tcp("localhost".to_owned(), MYSQL_PORT));
    }
    if endpoints.len() > ENDPOINTS_MAX {
        return Err(wrong(format!("{ENDPOINTS_MAX} hosts at most")));
    }
    Ok(endpoints)
}

fn tcp(text: &str) -> Result<Endpoint, ConnectionError> {
    host_and_port(text, MYSQL_PORT)
        .map(|(host, port)| Endpoint::Tcp(host, port))
        .ok_or_else(|| wrong("hosts as host, host:port or [IPv6 address]:port, divided by commas"))
}

/// A host name or an address, and its port; an address of IPv6 stands in brackets.
pub(super) fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, behind) = inside.split_once(']')?;
            let port = match behind {
                "" => None,
                behind => Some(behind.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_address = host.parse::<IpAddr>().is_ok();
    if !is_address && (text.starts_with('[') || !is_host_name(host)) {
        return None;
    }
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
    };
    Some((host.to_owned(), port))
}

/// Options behind `?`, as far as they matter.
#[derive(Debug, Default)]
struct Options {
    hosts: Vec<String>,
    socket: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    mode: Option<TlsMode>,
    is_off: Option<bool>,
    checks_host: Option<bool>,
    checks_cert: Option<bool>,
}

impl Options {
    /// Unknown options are about the driver and are skipped; but none that is about TLS, because
    /// leaving it out could mean less of it than was asked for.
    fn read(query: &str) -> Result<Options, ConnectionError> {
        let mut options = Options::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value, true, "the options")?;
            match name {
                "host" => options
                    .hosts
                    .extend(value.split(',').map(ToOwned::to_owned)),
                "unix_socket" => options.socket = Some(absolute(name, &value)?),
                "ssl_ca" => options.ca = Some(absolute(name, &value)?),
                "ssl_cert" => options.cert = Some(absolute(name, &value)?),
                "ssl_key" => options.key = Some(absolute(name, &value)?),
                "ssl_mode" => options.mode = Some(mode(&value)?),
                "ssl_disabled" => options.is_off = Some(truth(name, &value)?),
                "ssl_check_hostname" | "ssl_verify_identity" => {
                    options.checks_host = Some(truth(name, &value)?);
                }
                "ssl_verify_cert" => options.checks_cert = Some(truth(name, &value)?),
                other if other.starts_with("ssl") => {
                    return Err(wrong(
                        "of the options about TLS only ssl_ca, ssl_cert, ssl_key, ssl_mode, \
                         ssl_disabled, ssl_check_hostname, ssl_verify_identity and ssl_verify_cert",
                    ));
                }
                _ => (),
            }
        }
        Ok(options)
    }

    fn tls(self) -> Result<Tls, ConnectionError> {
        let mode = self.mode();
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(wrong("ssl_cert and ssl_key together")),
        };
        Ok(Tls {
            mode,
            ca: self.ca,
            identity,
        })
    }

    /// Naming a CA asks for all of it; each further option may take a part back.
    fn mode(&self) -> TlsMode {
        if self.is_off == Some(true) {
            return TlsMode::Off;
        }
        if let Some(mode) = self.mode {
            return mode;
        }
        let has_ca = self.ca.is_some();
        match (self.checks_cert, self.checks_host) {
            (Some(false), _) => TlsMode::Required,
            (_, Some(true)) => TlsMode::VerifyIdentity,
            (None, None) if has_ca => TlsMode::VerifyIdentity,
            (Some(true), None) => TlsMode::VerifyIdentity,
            (Some(true), Some(false)) => TlsMode::VerifyCa,
            (None, Some(false)) if has_ca => TlsMode::VerifyCa,
            _ if self.cert.is_some() || self.is_off == Some(false) => TlsMode::Required,
            _ => TlsMode::Preferred,
        }
    }
}

fn mode(word: &str) -> Result<TlsMode, ConnectionError> {
    match word.to_ascii_uppercase().as_str() {
        "DISABLED" => Ok(TlsMode::Off),
        "PREFERRED" => Ok(TlsMode::Preferred),
        "REQUIRED" => Ok(TlsMode::Required),
        "VERIFY_CA" => Ok(TlsMode::VerifyCa),
        "VERIFY_IDENTITY" => Ok(TlsMode::VerifyIdentity),
        _ => Err(wrong(
            "ssl_mode as DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY",
        )),
    }
}

fn absolute(name: &str, value: &str) -> Result<PathBuf, ConnectionError> {
    if value.starts_with('/') {
        Ok(PathBuf::from(value))
    } else {
        Err(wrong(format!("an absolute path as {name}")))
    }
}

fn truth(name: &str, value: &str) -> Result<bool, ConnectionError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(wrong(format!("true or false as {name}"))),
    }
}

/// Text with its `%xx` decoded; in options `+` is a blank as well.
pub(super) fn decoded(text: &str, has_plus: bool, what: &str) -> Result<String, ConnectionError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match (byte, behind) {
            (b'%', [high, low, behind @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = behind;
            }
            (b'+', _) if has_plus => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong(format!("UTF-8 behind % in {what}")))
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mysql(url: &str) -> MysqlConnection {
        match Connection::parse(url) {
            Ok(Connection::Mysql(mysql)) => mysql,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn a_file_of_sqlite() {
        for (url, file) in [
            ("sqlite:////var/lib/ha.sqlite", "/var/lib/ha.sqlite"),
            ("sqlite:///ha.sqlite", "ha.sqlite"),
            ("sqlite+pysqlite:////x/y?timeout=20", "/x/y"),
        ] {
            let expected = Connection::Sqlite(PathBuf::from(file));
            assert_eq!(Connection::parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn who_logs_in_where() {
        for (url, shown, password) in [
            (
                "mysql+pymysql://c:s3cret@10.0.0.1/ceilometer?charset=utf8",
                "mysql://c@10.0.0.1:3306/ceilometer",
                Some("s3cret"),
            ),
            (
                "mysql://c@db.example/x",
                "mysql://c@db.example:3306/x",
                None,
            ),
            (
                "mariadb+mysqldb://c:a%40b%2Fc%3Ad+%zz@[fd00::1]:3307,db2/x",
                "mysql://c@[fd00::1]:3307,db2:3306/x",
                Some("a@b/c:d+%zz"),
            ),
            ("mysql://c:a@b@h/x", "mysql://c@h:3306/x", Some("a@b")),
            ("mysql://c:a/b:c@h/x", "mysql://c@h:3306/x", Some("a/b:c")),
            ("mysql://c:a?b@h/x", "mysql://c@h:3306/x", Some("a?b")),
            ("mysql://c:@h/x", "mysql://c@h:3306/x", Some("")),
            ("mysql://c:p@/x", "mysql://c@localhost:3306/x", Some("p")),
            (
                "mysql://c:p@/x?host=a:1&host=[::1]:2",
                "mysql://c@a:1,[::1]:2/x",
                Some("p"),
            ),
            (
                "mysql://c@localhost/x?unix_socket=/run/my%20sql.sock&charset=utf8mb4",
                "mysql://c@/run/my sql.sock/x",
                None,
            ),
        ] {
            let found = mysql(url);
            let exposed = found.password.as_ref().map(Secret::expose);
            assert_eq!(exposed, password, "{url}");
            assert_eq!(Connection::Mysql(found).to_string(), shown, "{url}");
        }
    }

    #[test]
    fn as_much_tls_as_was_asked_for() {
        for (options, expected) in [
            ("", TlsMode::Preferred),
            ("connect_timeout=3&whatever=x", TlsMode::Preferred),
            ("ssl_ca=/ca", TlsMode::VerifyIdentity),
            ("ssl_ca=/ca&ssl_check_hostname=false", TlsMode::VerifyCa),
            ("ssl_ca=/ca&ssl_verify_cert=false", TlsMode::Required),
            ("ssl_verify_cert=true", TlsMode::VerifyIdentity),
            ("ssl_verify_cert=1&ssl_verify_identity=0", TlsMode::VerifyCa),
            ("ssl_verify_identity=true", TlsMode::VerifyIdentity),
            ("ssl_check_hostname=false", TlsMode::Preferred),
            ("ssl_cert=/c&ssl_key=/k", TlsMode::Required),
            ("ssl_disabled=false", TlsMode::Required),
            ("ssl_ca=/ca&ssl_disabled=True", TlsMode::Off),
            ("ssl_ca=/ca&ssl_mode=verify_ca", TlsMode::VerifyCa),
            ("ssl_mode=REQUIRED", TlsMode::Required),
        ] {
            let tls = mysql(&format!("mysql://c@h/x?{options}")).tls;
            assert_eq!(tls.mode, expected, "{options}");
        }
    }

    #[test]
    fn what_is_refused_says_what_would_be_right_and_nothing_of_the_url() {
        for (url, word) in [
            ("", "sqlite:////path or mysql"),
            ("/var/lib/s3cret.sqlite", "sqlite:////path or mysql"),
            ("s3cret://h", "sqlite:////path or mysql"),
            ("sqlite://", "sqlite:////absolute"),
            ("sqlite:///", "sqlite:////absolute"),
            ("sqlite://s3cret", "sqlite:////absolute"),
            ("sqlite:///:memory:", "memory"),
            ("postgresql+psycopg2://c:s3cret@h/x", "no engine postgresql"),
            ("mysql://h/s3cret", "a user before @"),
            ("mysql://:s3cret@h/x", "a user before @"),
            ("mysql://c:s3cret@h", "one database"),
            ("mysql://c:s3cret@h/", "one database"),
            ("mysql://c:s3cret@h/x/y", "one database"),
            ("mysql://c:s3cret@h:port/x", "host:port"),
            ("mysql://c:s3cret@h:0/x", "host:port"),
            ("mysql://c:s3cret@[h]/x", "host:port"),
            ("mysql://c:s3cret@[::1/x", "host:port"),
            ("mysql://c:s3cret@a b/x", "host:port"),
            ("mysql://c:s3cret%ff@h/x", "UTF-8 behind % in the password"),
            (
                "mysql://c:s3cret@h/x?unix_socket=s",
                "absolute path as unix_socket",
            ),
            ("mysql://c:s3cret@h/x?ssl_cert=/c", "ssl_cert and ssl_key"),
            ("mysql://c:s3cret@h/x?ssl_capath=/c", "only ssl_ca"),
            ("mysql://c:s3cret@h/x?ssl_disabled=s3cret", "true or false"),
            ("mysql://c:s3cret@h/x?ssl_mode=s3cret", "VERIFY_IDENTITY"),
        ] {
            let error = Connection::parse(url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(word), "{url}: {text}");
            assert!(!text.contains("s3cret"), "{url}: {text}");
        }
        let hosts = vec!["h"; ENDPOINTS_MAX].join(",");
        assert_eq!(
            mysql(&format!("mysql://c@{hosts}/x")).endpoints.len(),
            ENDPOINTS_MAX
        );
        assert!(Connection::parse(&format!("mysql://c@{hosts},h/x")).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_password_is_it_comes_through_and_is_not_shown(
            password in "[^\\p{C}]{0,12}",
        ) {
            let coded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let found = mysql(&format!("mysql://c:{coded}@h/x"));
            prop_assert_eq!(found.password.as_ref().unwrap().expose(), &password);
            let long = password.chars().count() > 4;
            let shown = format!("{found:?} {}", Connection::Mysql(found.clone()));
            prop_assert!(!long || !shown.contains(&password));
        }

        #[test]
        fn no_text_panics_and_no_error_repeats_it(text in "\\PC{0,40}", begin in 0..3usize) {
            let begin = ["", "mysql://", "mysql://c:"][begin];
            if let Err(error) = Connection::parse(&format!("{begin}{text}")) {
                prop_assert!(text.len() < 8 || !error.to_string().contains(&text));
            }
        }
    }
}
