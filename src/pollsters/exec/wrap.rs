//! Pure. A command with what limits it before it: `setsid`, `setpriv` and `prlimit` of util-linux
//! and `nice` of coreutils, each of which replaces itself by the next, so that all of it is one process.

/// The most bytes that a file may have which a command writes. A plug-in that keeps a note of its last
/// round needs kilobytes; one that writes more is killed by SIGXFSZ.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The most files that a command may have open. What would be the next fails inside the command.
const OPEN_FILES_MAX: u64 = 256;

/// The most processes and threads that the user of a command may have before the command can't start
/// another. It counts all that user's processes, so that it is for fork bombs and for nothing finer;
/// inside the command, the next fork fails.
const PROCESSES_MAX: u64 = 512;

/// How much a command steps back for others, the agent's probes above all, when the CPU is short.
const NICENESS: &str = "10";

/// Who a command runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// As the agent, with all that it may.
    Same,
    /// As the agent, which is not root, without its capabilities.
    SameWithoutCapabilities,
    /// As this user and group and nobody else; the agent is root.
    Other {
        /// The user's number.
        uid: u32,
        /// The number of the user's own group.
        gid: u32,
    },
}

/// Everything before the program itself. The first word is what is started.
pub(super) fn before(who: Who, memory_bytes: u64) -> Vec<String> {
    // A session of its own is what tells its processes from the agent's other children later.
    let mut words = vec!["setsid".to_owned(), "--".to_owned()];
    words.extend(["nice", "-n", NICENESS].map(str::to_owned));
    // The kernel kills it when the thread that started it goes, and with it when the agent dies.
    words.extend(["setpriv", "--pdeathsig=KILL"].map(str::to_owned));
    if who != Who::Same {
        let fewer = ["--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"];
        words.extend(fewer.map(str::to_owned));
    }
    if let Who::Other { uid, gid } = who {
        words.push(format!("--reuid={uid}"));
        words.push(format!("--regid={gid}"));
        words.extend(["--clear-groups", "--bounding-set=-all"].map(str::to_owned));
    }
    words.extend(["--", "prlimit"].map(str::to_owned));
    words.push(format!("--as={memory_bytes}"));
    words.push("--core=0".to_owned());
    words.push(format!("--fsize={FILE_BYTES_MAX}"));
    words.push(format!("--nofile={OPEN_FILES_MAX}"));
    if who != Who::Same {
        words.push(format!("--nproc={PROCESSES_MAX}"));
    }
    words.push("--".to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_becomes_the_other_user_and_loses_everything() {
        let words = before(Who::Other { uid: 7, gid: 8 }, 1024).join(" ");
        assert_eq!(
            words,
            "setsid -- nice -n 10 setpriv --pdeathsig=KILL --no-new-privs --inh-caps=-all --ambient-caps=-all \
             --reuid=7 --regid=8 --clear-groups --bounding-set=-all -- prlimit --as=1024 --core=0 \
             --fsize=16777216 --nofile=256 --nproc=512 --"
        );
    }

    #[test]
    fn only_root_can_change_users_and_kept_privileges_are_kept() {
        let words = before(Who::SameWithoutCapabilities, 1024).join(" ");
        assert!(words.contains("--no-new-privs") && words.contains("--nproc="));
        assert!(!words.contains("--reuid") && !words.contains("--bounding-set"));
        let words = before(Who::Same, 1024).join(" ");
        assert!(words.contains("--as=1024") && words.contains("--pdeathsig=KILL"));
        assert!(!words.contains("priv=") && !words.contains("caps") && !words.contains("nproc"));
    }
}
