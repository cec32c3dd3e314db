//! Pure. Text for a terminal: made harmless, measured in columns, wrapped, and ages in words.

/// The most characters of one text from the network that are shown. A host's name has at most 253;
/// what is longer is cut, and an ellipsis says so.
pub(super) const TEXT_CHARS_MAX: usize = 256;

/// The text without anything that a terminal would obey instead of showing it: control characters,
/// escape sequences, changes of writing direction, invisible characters. Each becomes U+FFFD, so
/// that a doctored name is seen to be one.
pub(crate) fn printable(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters
        .by_ref()
        .take(TEXT_CHARS_MAX)
        .map(harmless_char)
        .collect();
    if characters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// The same for a text that is shown in full.
#[cfg(feature = "storage")]
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(harmless_char).collect()
}

fn harmless_char(character: char) -> char {
    if is_unprintable(character) {
        char::REPLACEMENT_CHARACTER
    } else {
        character
    }
}

/// The longest age that is shown, in days: 27 years stand for whatever is longer, so that ages keep
/// their column.
const AGE_DAYS_MAX: f64 = 9999.0;

/// How many terminal columns the text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

/// The text, and blanks up to that many columns.
pub(crate) fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Blanks up to that many columns, and the text.
pub(super) fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The text in lines of at most that many columns, broken at blanks, and inside a word only where
/// the word alone is too long. Never empty.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let mut pieces = break_word(word, width);
        line.push_str(&pieces.pop().unwrap_or_default());
        lines.append(&mut pieces);
    }
    lines.push(line);
    lines
}

/// An age for people: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`.
pub(crate) fn age(seconds: f64) -> String {
    let sign = if seconds <= -0.05 { "-" } else { "" };
    let seconds = seconds.abs();
    let (minutes, hours, days) = (seconds / 60.0, seconds / 3600.0, seconds / 86_400.0);
    // Each limit is where the rounded number would need one more digit.
    let amount = if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else if minutes < 119.5 {
        format!("{minutes:.0} min")
    } else if hours < 47.5 {
        format!("{hours:.0} h")
    } else {
        format!("{:.0} d", days.min(AGE_DAYS_MAX))
    };
    format!("{sign}{amount}")
}

/// The word in pieces of at most that many columns, and at least one character. Never empty.
fn break_word(word: &str, width: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut used = 0;
    for character in word.chars() {
        let wide = char_columns(character);
        if used + wide > width && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            used = 0;
        }
        piece.push(character);
        used += wide;
    }
    pieces.push(piece);
    pieces
}

/// Whether a terminal would obey a character, or show nothing for it.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0x00AD                  // soft hyphen
            | 0x061C                // Arabic letter mark
            | 0x115F..=0x1160 | 0x3164 | 0xFFA0 // Hangul fillers
            | 0x17B4..=0x17B5       // Khmer inherent vowels
            | 0x180B..=0x180F       // Mongolian selectors and separator
            | 0x200B..=0x200F       // zero width, direction marks
            | 0x2028..=0x202E       // line separators, direction embeddings
            | 0x2060..=0x206F       // joiners, direction isolates
            | 0xFEFF                // byte order mark
            | 0xFFF9..=0xFFFB       // interlinear annotation
            | 0xE0000..=0xE0FFF     // tags, variation selectors
        )
}

/// 0, 1 or 2 columns, after Unicode Standard Annex #11 in broad strokes: exact for the scripts that
/// terminals agree on.
fn char_columns(character: char) -> usize {
    match u32::from(character) {
        // Combining marks and variation selectors.
        0x0300..=0x036F
        | 0x0483..=0x0489
        | 0x0591..=0x05BD
        | 0x064B..=0x065F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20FF
        | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F => 0,
        // East Asian wide and fullwidth forms, emoji.
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE4F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, expected) in [
            ("node-1", "node-1"),
            ("żółw-東京", "żółw-東京"),
            ("a\u{1b}[31mb", "a\u{fffd}[31mb"),
            ("a\u{9b}2Jb", "a\u{fffd}2Jb"),
            (
                "a\nb\tc\rd\u{7f}\0",
                "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}",
            ),
            ("abc\u{202e}cba", "abc\u{fffd}cba"),
            ("no\u{200b}de", "no\u{fffd}de"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let fits = "x".repeat(TEXT_CHARS_MAX);
        assert_eq!(printable(&fits), fits);
        let cut = printable(&format!("{fits}x"));
        assert_eq!(cut.chars().count(), TEXT_CHARS_MAX);
        assert!(cut.ends_with("x…"));
    }

    #[test]
    fn columns_count_what_a_terminal_draws() {
        for (text, expected) in [
            ("node", 4),
            ("żółw", 4),
            ("z\u{307}", 1),
            ("東京", 4),
            ("🔥", 2),
        ] {
            assert_eq!(columns(text), expected, "{text}");
        }
        assert_eq!(pad_right("東", 4), "東  ");
        assert_eq!(pad_left("7", 3), "  7");
        assert_eq!(pad_left("1234", 3), "1234", "never cut");
    }

    #[test]
    fn lines_break_at_blanks_and_inside_a_word_only_when_they_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefgh b", 3), ["a", "abc", "def", "gh", "b"]);
        assert_eq!(wrap("東京都", 5), ["東京", "都"]);
        assert_eq!(
            wrap("10\u{a0}s ago", 4),
            ["10\u{a0}s", "ago"],
            "tied by a no-break space"
        );
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("東", 1), ["東"], "no room is no reason to lose text");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, expected) in [
            (0.0, "0.0 s"),
            (-0.04, "0.0 s"),
            (0.42, "0.4 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (12.4, "12 s"),
            (119.4, "119 s"),
            (119.6, "2 min"),
            (180.0, "3 min"),
            (7169.0, "119 min"),
            (7200.0, "2 h"),
            (170_000.0, "47 h"),
            (172_800.0, "2 d"),
            (-600.0, "-10 min"),
            (1e12, "9999 d"),
        ] {
            assert_eq!(age(seconds), expected, "{seconds}");
        }
    }
}
