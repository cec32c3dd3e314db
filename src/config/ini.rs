//! Pure. Reads the INI dialect of oslo.config, with line numbers and without stopping at the first
//! bad line.
//!
//! The rules are those of oslo.config's parser (its `iniparser.py`):
//! - `#` or `;` in the first column makes a comment; anywhere else it belongs to the value;
//! - `[name]` opens a section, which may be opened again later;
//! - `key = value` or `key: value`, whichever separator comes first;
//! - an indented line continues the value above it, after a line break; a blank line or a comment
//!   ends the value;
//! - a pair of quotes around the first line of a value is taken off.

/// A whole file, in the order of its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// Section headers; a section opened twice is here twice.
    pub(crate) sections: Vec<Section>,
    /// Assignments.
    pub(crate) entries: Vec<Entry>,
    /// Lines that are neither.
    pub(crate) faults: Vec<Fault>,
}

/// A section header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// What stands between the brackets.
    pub(crate) name: String,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// An assignment.
#[derive(PartialEq, Eq)]
pub(crate) struct Entry {
    /// The section it stands in, as written.
    pub(crate) section: String,
    /// The option's name.
    pub(crate) key: String,
    /// Its value, lines joined by line breaks.
    pub(crate) value: String,
    /// The line of the name, from 1.
    pub(crate) line: usize,
}

impl std::fmt::Debug for Entry {
    /// Leaves the value out: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: [{}] {}", self.line, self.section, self.key)
    }
}

/// A line that could not be understood.
#[derive(PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) kind: FaultKind,
    /// The section above it and the line itself, where a known name may be looked for in it. Only
    /// known names that are found may be shown.
    pub(crate) place: Option<(String, String)>,
}

impl std::fmt::Debug for Fault {
    /// Leaves the line out: it may hold half a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.line, self.kind)
    }
}

/// What can be wrong with a line. The line itself is never quoted: it may hold half a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FaultKind {
    #[error("found neither '=' nor ':' in the line, expected `option = value`")]
    NoSeparator,
    #[error("found nothing before the separator, expected `option = value`")]
    NoKey,
    #[error(
        "found an option before the first section, expected a header such as [DEFAULT] above it"
    )]
    NoSection,
    #[error(
        "found an indented line with no option above it to continue, expected options and comments in the first column"
    )]
    NothingToContinue,
    #[error(
        "found a section header that does not end with ']', expected `[name]` and nothing after it"
    )]
    OpenHeader,
    #[error(
        "found a section header that does not begin with '[', expected `[name]` and nothing before it"
    )]
    LostHeader,
    #[error("found a section header without a name, expected `[name]`")]
    NamelessHeader,
}

/// Reads a file.
pub(crate) fn read(text: &str) -> Document {
    let mut reader = Reader::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in lines(text).enumerate() {
        reader.take_line(index + 1, line.trim_end());
    }
    reader.document
}

/// Lines as Python counts them: a carriage return ends one as well, alone or before a line feed.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    })
}

#[derive(Default)]
struct Reader {
    document: Document,
    scope: Scope,
    above: Above,
}

/// Where an assignment would belong.
#[derive(Default)]
enum Scope {
    /// No header yet.
    #[default]
    Nowhere,
    /// Below a broken header: that was reported, and what follows it would be guesswork.
    Unknown,
    /// In a section.
    Section(String),
}

/// What an indented line would continue.
#[derive(Default, Clone, Copy)]
enum Above {
    #[default]
    Nothing,
    /// The value of the last entry.
    Value,
    /// A line that was skipped, and so is its continuation.
    Skipped,
}

impl Reader {
    fn take_line(&mut self, number: usize, line: &str) {
        match line.chars().next() {
            None | Some('#' | ';') => self.above = Above::Nothing,
            Some(' ' | '\t') => self.take_continuation(number, line.trim_start()),
            Some('[') => self.take_header(number, line),
            Some(_) => self.take_assignment(number, line),
        }
    }

    fn take_continuation(&mut self, number: usize, rest: &str) {
        match (self.above, self.document.entries.last_mut()) {
            (Above::Value, Some(entry)) => {
                entry.value.push('\n');
                entry.value.push_str(rest);
            }
            (Above::Skipped, _) => {}
            (Above::Nothing | Above::Value, _) => {
                self.skip(number, FaultKind::NothingToContinue, "");
            }
        }
    }

    fn take_header(&mut self, number: usize, line: &str) {
        self.scope = Scope::Unknown;
        let inside = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'));
        match inside {
            None => self.skip(number, FaultKind::OpenHeader, line),
            Some("") => self.skip(number, FaultKind::NamelessHeader, ""),
            Some(name) => {
                self.above = Above::Nothing;
                self.scope = Scope::Section(name.to_owned());
                self.document.sections.push(Section {
                    name: name.to_owned(),
                    line: number,
                });
            }
        }
    }

    fn take_assignment(&mut self, number: usize, line: &str) {
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return self.take_word(number, line);
        };
        let key = key.trim();
        if key.is_empty() {
            return self.skip(number, FaultKind::NoKey, "");
        }
        match &self.scope {
            Scope::Nowhere => self.skip(number, FaultKind::NoSection, ""),
            Scope::Unknown => self.above = Above::Skipped,
            Scope::Section(section) => {
                self.document.entries.push(Entry {
                    section: section.clone(),
                    key: key.to_owned(),
                    value: without_quotes(value.trim()).to_owned(),
                    line: number,
                });
                self.above = Above::Value;
            }
        }
    }

    /// A line with neither a separator nor a bracket in front. What follows a header that lost its
    /// bracket must not be taken for options of the section above.
    fn take_word(&mut self, number: usize, line: &str) {
        if line.ends_with([']', '}', ')']) && !line.contains(char::is_whitespace) {
            self.scope = Scope::Unknown;
            self.skip(number, FaultKind::LostHeader, line);
        } else {
            self.skip(number, FaultKind::NoSeparator, line);
        }
    }

    fn skip(&mut self, number: usize, kind: FaultKind, line: &str) {
        let section = match &self.scope {
            Scope::Section(name) => name.clone(),
            Scope::Nowhere | Scope::Unknown => String::new(),
        };
        let place = (!line.is_empty()).then(|| (section, line.to_owned()));
        self.document.faults.push(Fault {
            line: number,
            kind,
            place,
        });
        self.above = Above::Skipped;
    }
}

/// Takes off one pair of quotes; to oslo.config a lone quote is both of them.
fn without_quotes(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| {
            let rest = value.strip_prefix(quote)?;
            if rest.is_empty() {
                Some(rest)
            } else {
                rest.strip_suffix(quote)
            }
        })
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(text: &str) -> Vec<(String, String, String, usize)> {
        let document = read(text);
        assert_eq!(document.faults, [], "{text:?}");
        document
            .entries
            .into_iter()
            .map(|entry| (entry.section, entry.key, entry.value, entry.line))
            .collect()
    }

    #[test]
    fn the_dialect() {
        for (line, key, value) in [
            ("a = b", "a", "b"),
            ("a=b", "a", "b"),
            ("a: b", "a", "b"),
            ("a : b", "a", "b"),
            ("a = b: c", "a", "b: c"),
            ("a: b = c", "a", "b = c"),
            ("url = mysql://u:p@h/d?x=y", "url", "mysql://u:p@h/d?x=y"),
            ("a = b # c", "a", "b # c"),
            ("a = b ; c", "a", "b ; c"),
            ("a = #b", "a", "#b"),
            ("a =", "a", ""),
            ("a = \"\"", "a", ""),
            ("a = \"b c\"", "a", "b c"),
            ("a = 'b c'", "a", "b c"),
            ("a = ' b '", "a", " b "),
            ("a = \"b'", "a", "\"b'"),
            ("a = '", "a", ""),
            ("a = \"b\" c", "a", "\"b\" c"),
            ("a = C:\\new\\table", "a", "C:\\new\\table"),
            ("a = żółć", "a", "żółć"),
            ("a = b\r", "a", "b"),
            ("a = b\n  c\n\td", "a", "b\nc\nd"),
            ("a = b,\n  # not a comment", "a", "b,\n# not a comment"),
            ("a =\n  b", "a", "\nb"),
            ("a = \"b\"\n  \"c\"", "a", "b\n\"c\""),
        ] {
            let expected = [("S".to_owned(), key.to_owned(), value.to_owned(), 2)];
            assert_eq!(entries(&format!("[S]\n{line}")), expected, "{line:?}");
        }
    }

    #[test]
    fn comments_blank_lines_and_headers_make_no_entries() {
        assert_eq!(entries("\u{feff}# a\n; b\n\n   \n[S]\n#c = d\n"), []);
    }

    #[test]
    fn a_section_opened_twice_and_a_key_set_twice_are_all_kept() {
        let found = entries("[A]\nk = 1\nk = 2\n[B]\nk = 3\n[A]\nk = 4\n");
        let brief: Vec<_> = found
            .iter()
            .map(|(section, _, value, line)| (section.as_str(), value.as_str(), *line))
            .collect();
        assert_eq!(
            brief,
            [("A", "1", 2), ("A", "2", 3), ("B", "3", 5), ("A", "4", 7)]
        );
    }

    #[test]
    fn bad_lines_are_reported_once_and_reading_goes_on() {
        use FaultKind::*;
        let text = "k = v\n[S\nlost = 1\n  more\n[]\nlost = 2\n[S] # c\n[S]\nnothing\n  more\n= v\n\n  x\n# c\n  x\nk = v";
        let document = read(text);
        let faults: Vec<_> = document.faults.iter().map(|f| (f.line, f.kind)).collect();
        assert_eq!(
            faults,
            [
                (1, NoSection),
                (2, OpenHeader),
                (5, NamelessHeader),
                (7, OpenHeader),
                (9, NoSeparator),
                (11, NoKey),
                (13, NothingToContinue),
                (15, NothingToContinue),
            ]
        );
        assert_eq!(format!("{:?}", document.entries), "[16: [S] k]");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            read(&text);
        }

        #[test]
        fn no_text_made_of_our_own_signs_is_too_strange(
            text in "[\\[\\]a= :#;\n\t\"'$,\u{feff}\r]{0,80}",
        ) {
            let document = read(&text);
            let lines = lines(&text).count();
            prop_assert!(document.entries.len() + document.faults.len() <= lines);
            prop_assert!(document.entries.iter().all(|entry| entry.line <= lines));
        }

        #[test]
        fn what_is_written_is_read_back(
            written in prop::collection::vec(
                ("[A-Za-z_]{1,8}", prop::collection::vec(
                    ("[a-z_]{1,12}", prop::collection::vec("[!-~]([ -~]{0,20}[!-~])?", 1..4)),
                    0..5,
                )),
                0..5,
            ),
        ) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for (section, keys) in &written {
                text.push_str(&format!("[{section}]\n"));
                for (key, lines) in keys {
                    expected.push((section.clone(), key.clone(), lines.join("\n")));
                    // Quotes around it keep whatever quotes the value itself has.
                    let (first, rest) = lines.split_first().unwrap();
                    text.push_str(&format!("{key} = \"{first}\"\n"));
                    for line in rest {
                        text.push_str(&format!("    {line}\n"));
                    }
                }
            }
            let found: Vec<_> = entries(&text)
                .into_iter()
                .map(|(section, key, value, _)| (section, key, value))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
