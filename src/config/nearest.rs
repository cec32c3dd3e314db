//! Pure. Finds the known name that a misspelt one was probably meant to be.

/// Longer names are not compared: no option is half as long, and the work grows with the square of
/// the length. What is lost is a suggestion.
const NAME_CHARS_MAX: usize = 64;

/// The candidate with the fewest typing slips between it and `name`, if they are few enough for the
/// two to be the same word: a third of its letters, two at least.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    all_nearest(name, candidates).into_iter().next()
}

/// All candidates that have as few slips as that one, each once.
pub(crate) fn all_nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let wanted: Vec<char> = name
        .chars()
        .take(NAME_CHARS_MAX + 1)
        .map(|c| if c == '-' { '_' } else { c })
        .collect();
    if wanted.len() > NAME_CHARS_MAX {
        return Vec::new();
    }
    let mut fewest = (wanted.len() / 3).max(2);
    let mut found: Vec<&str> = Vec::new();
    for candidate in candidates {
        if candidate.len().abs_diff(wanted.len()) > fewest {
            continue;
        }
        let count = slips(&wanted, candidate, fewest);
        if count > fewest || count >= candidate.len() || found.contains(&candidate) {
            continue;
        }
        if count < fewest {
            found.clear();
            fewest = count;
        }
        found.push(candidate);
    }
    found
}

/// The optimal string alignment distance: letters put in, left out, replaced, or swapped with their
/// neighbour, without regard to case. A hyphen in `wanted` was made the underscore it stands for. Of a
/// distance above `most` it only says that it is above.
fn slips(wanted: &[char], candidate: &str, most: usize) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=wanted.len()).collect();
    let mut above = '\0';
    for (row, letter) in candidate.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut left = '\0';
        let mut least = row + 1;
        for (column, &own) in wanted.iter().enumerate() {
            let cell = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX / 2);
            let replaced = cell(&last, column) + usize::from(!own.eq_ignore_ascii_case(&letter));
            let mut best = replaced
                .min(cell(&last, column + 1) + 1)
                .min(cell(&current, column) + 1);
            if column > 0 && own.eq_ignore_ascii_case(&above) && left.eq_ignore_ascii_case(&letter)
            {
                best = best.min(cell(&before_last, column - 1) + 1);
            }
            current.push(best);
            least = least.min(best);
            left = own;
        }
        // Every way to the end leads through this line or, by a swap, over it from the last.
        if least > most && last.iter().all(|count| *count > most) {
            return least;
        }
        above = letter;
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["ping_count", "ping_timeout", "ping_interval", "cluster"];

    #[test]
    fn slips_of_the_finger_are_understood() {
        for (typed, meant) in [
            ("png_count", Some("ping_count")),
            ("ping_cuont", Some("ping_count")),
            ("ping-count", Some("ping_count")),
            ("PING_COUNT", Some("ping_count")),
            ("Ping-Tmeout", Some("ping_timeout")),
            ("ping_timeuot", Some("ping_timeout")),
            ("clutser", Some("cluster")),
            ("instance_name_template", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, KNOWN.iter().copied()), meant, "{typed:?}");
        }
    }

    #[test]
    fn names_that_are_as_near_are_all_told() {
        let near = all_nearest("ping_tim", ["ping_time", "other", "ping_tin", "ping_time"]);
        assert_eq!(near, ["ping_time", "ping_tin"]);
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "ab", 1),
            ("abc", "abcd", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            let letters: Vec<char> = a.chars().collect();
            assert_eq!(slips(&letters, b, 9), distance, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_name_without_end_costs_nothing() {
        assert_eq!(nearest(&"p".repeat(1 << 20), KNOWN.iter().copied()), None);
    }
}
