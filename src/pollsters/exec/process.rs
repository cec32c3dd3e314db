//! Pure. What `/proc/PID/stat` says about a process.

/// Where a process stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it has ended and waits to be reaped.
    pub(super) is_zombie: bool,
    /// Its parent.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
}

/// Reads `PID (NAME) STATE PARENT GROUP SESSION …` (proc(5)). The name may hold anything, brackets
/// and blanks too, so what counts stands behind the last bracket.
pub(super) fn standing(stat: &str) -> Option<Standing> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Standing {
        is_zombie: matches!(state, "Z" | "X"),
        parent: number()?,
        group: number()?,
        session: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "a b", "a) Z 1 2 3 (b", ""] {
            let stat = format!("77 ({name}) S 5 6 7 34816 77 4194304 1 0");
            assert_eq!(
                standing(&stat),
                Some(Standing {
                    is_zombie: false,
                    parent: 5,
                    group: 6,
                    session: 7
                }),
                "{name}"
            );
        }
        assert!(standing("77 (sh) Z 5 6 7").unwrap().is_zombie);
        for stat in ["", "77", "77 (sh)", "77 (sh) S 5 6", "77 (sh) S 5 6 x"] {
            assert_eq!(standing(stat), None, "{stat}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in any::<String>()) {
            let _ = standing(&line);
        }
    }
}
