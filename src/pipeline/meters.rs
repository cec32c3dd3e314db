//! Pure. Which meters a source wants. The rules are those of Ceilometer's pipeline: first what is
//! excluded, then what is included; with exclusions alone everything else is wanted. Names match as
//! Python's `fnmatch` has it.

/// The meters of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterFilter {
    included: Vec<String>,
    excluded: Vec<String>,
}

/// A list of meters that contradicts itself. The wording is Ceilometer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    #[error("No meter specified, expected at least one under meters")]
    Nothing,
    #[error("found an empty meter name, expected a name or '!' and a name")]
    EmptyName,
    #[error("Both included and excluded meters specified, expected either names or only '!' names")]
    Mixed,
    #[error("Included meters specified with wildcard, expected either '*' or names")]
    BesideWildcard,
}

impl MeterFilter {
    /// Reads `name`, `na*`, `*` and `!name`.
    pub(super) fn new(meters: &[String]) -> Result<Self, FilterError> {
        let mut filter = MeterFilter {
            included: Vec::new(),
            excluded: Vec::new(),
        };
        for meter in meters {
            match meter.strip_prefix('!') {
                Some(name) => filter.excluded.push(name.to_owned()),
                None => filter.included.push(meter.clone()),
            }
        }
        filter.check()?;
        Ok(filter)
    }

    /// What stands in for a list that was refused.
    pub(super) fn everything() -> Self {
        MeterFilter {
            included: vec!["*".to_owned()],
            excluded: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), FilterError> {
        let mut names = self.included.iter().chain(&self.excluded).peekable();
        if names.peek().is_none() {
            return Err(FilterError::Nothing);
        }
        if names.any(String::is_empty) {
            return Err(FilterError::EmptyName);
        }
        // Ceilometer takes whatever begins with '*' for a wildcard here, and allows it beside
        // exclusions.
        let has_names = self.included.iter().any(|name| !name.starts_with('*'));
        if has_names && !self.excluded.is_empty() {
            return Err(FilterError::Mixed);
        }
        if has_names && self.included.iter().any(|name| name == "*") {
            return Err(FilterError::BesideWildcard);
        }
        Ok(())
    }

    /// Whether the source wants this meter.
    pub fn wants(&self, meter: &str) -> bool {
        !self.excludes_by_name(meter)
            && (self.included.is_empty() || self.included.iter().any(|name| matches(name, meter)))
    }

    /// Whether a `!name` of the source says no to this meter.
    pub fn excludes_by_name(&self, meter: &str) -> bool {
        self.excluded.iter().any(|name| matches(name, meter))
    }

    /// Whether the source may want this meter or any whose name begins with it and a dot, without
    /// knowing which there are.
    pub fn may_want(&self, name: &str) -> bool {
        // Only a wildcard that excludes everything below matches a name that nothing has.
        let below = format!("{name}.\u{1}");
        self.wants(name)
            || (!self.excludes_by_name(&below)
                && (self.included.is_empty()
                    || self
                        .included
                        .iter()
                        .any(|pattern| may_match_below(pattern, name))))
    }

    /// Every name and wildcard that the source mentions, without its `!`; with [`matches`] a caller
    /// finds those that no pollster emits.
    pub fn meter_names(&self) -> impl Iterator<Item = &str> {
        self.included
            .iter()
            .chain(&self.excluded)
            .map(String::as_str)
    }
}

/// Whether a meter fits a name with `*` for anything, `?` for one character, `[ab]`, `[a-z]` and
/// `[!a]` for one of a set.
pub fn matches(pattern: &str, meter: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let meter: Vec<char> = meter.chars().collect();
    let (mut p, mut m) = (0, 0);
    // Where the last `*` stands, and how much of the meter it has swallowed: the only place worth
    // going back to, so the work is bounded by the product of both lengths.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(p..).unwrap_or_default();
        let step = meter.get(m).and_then(|c| one(rest, *c));
        if rest.first() == Some(&'*') {
            star = Some((p, m));
            p += 1;
        } else if let Some(length) = step {
            p += length;
            m += 1;
        } else if rest.is_empty() && m == meter.len() {
            return true;
        } else if let Some((at, swallowed)) = star.filter(|(_, swallowed)| *swallowed < meter.len())
        {
            star = Some((at, swallowed + 1));
            p = at + 1;
            m = swallowed + 1;
        } else {
            return false;
        }
    }
}

/// Whether a pattern may match a name that begins with this one and a dot. It goes by what stands
/// before the first wildcard, so it may say yes where there is nothing to match; it never says no where
/// there is.
pub fn may_match_below(pattern: &str, name: &str) -> bool {
    let below = format!("{name}.");
    match pattern.split_once(['*', '?', '[']) {
        Some((plain, _)) => below.starts_with(plain) || plain.starts_with(&below),
        None => pattern.len() > below.len() && pattern.starts_with(&below),
    }
}

/// How much of the pattern stands for this one character; None if it doesn't.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((members, length)) => holds(members, c).then_some(length),
            None => (c == '[').then_some(1),
        },
        literal => (*literal == c).then_some(1),
    }
}

/// The inside of a set and its length with brackets; a `]` right at its start belongs to it.
fn set(pattern: &[char]) -> Option<(&[char], usize)> {
    let start = if pattern.get(1) == Some(&'!') { 2 } else { 1 };
    let end = pattern
        .iter()
        .enumerate()
        .skip(start + 1)
        .find(|(_, c)| **c == ']')
        .map(|(at, _)| at)?;
    Some((pattern.get(1..end)?, end + 1))
}

fn holds(members: &[char], c: char) -> bool {
    let (members, negated) = match members {
        ['!', rest @ ..] => (rest, true),
        all => (all, false),
    };
    let mut rest = members;
    let mut found = false;
    while let [first, others @ ..] = rest {
        rest = match others {
            ['-', last, after @ ..] => {
                found |= (*first..=*last).contains(&c);
                after
            }
            _ => {
                found |= *first == c;
                others
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(meters: &[&str]) -> Result<MeterFilter, FilterError> {
        let meters: Vec<String> = meters.iter().map(|meter| (*meter).to_owned()).collect();
        MeterFilter::new(&meters)
    }

    #[test]
    fn names_match_as_fnmatch_has_it() {
        for (pattern, meter, expected) in [
            ("cpu", "cpu", true),
            ("cpu", "cpu_util", false),
            ("cpu", "CPU", false),
            ("storage_gateway.*", "storage_gateway.rtt", true),
            ("storage_gateway.*", "storage_gateway.", true),
            ("storage_gateway.*", "storage_gateway", false),
            ("storage_gateway.*", "storage_connectivity", false),
            ("*", "", true),
            ("*", "anything.at.all", true),
            ("*.rtt", "storage_gateway.rtt", true),
            ("*.rtt", "storage_gateway.rtt.max", false),
            ("a*b*c", "a__b__b__c", true),
            ("a*b*c", "a__c__b", false),
            ("**", "x", true),
            ("disk.?", "disk.a", true),
            ("disk.?", "disk.", false),
            ("disk.[ab]", "disk.b", true),
            ("disk.[!ab]", "disk.b", false),
            ("disk.[!ab]", "disk.c", true),
            ("disk.[a-c]", "disk.b", true),
            ("disk.[a-c]", "disk.d", false),
            ("disk.[]]", "disk.]", true),
            ("disk.[a", "disk.[a", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, meter), expected, "{pattern:?} {meter:?}");
        }
    }

    #[test]
    fn exclusions_come_first_and_alone_want_the_rest() {
        for (meters, meter, wanted, excluded) in [
            (&["a", "b.*"][..], "a", true, false),
            (&["a", "b.*"], "b.c", true, false),
            (&["a", "b.*"], "c", false, false),
            (&["*"], "c", true, false),
            (&["!a"], "a", false, true),
            (&["!a"], "b", true, false),
            (&["!a.*"], "a.b", false, true),
            (&["*", "!a"], "a", false, true),
            (&["*", "!a"], "b", true, false),
        ] {
            let filter = filter(meters).unwrap();
            assert_eq!(filter.wants(meter), wanted, "{meters:?} {meter}");
            assert_eq!(
                filter.excludes_by_name(meter),
                excluded,
                "{meters:?} {meter}"
            );
        }
    }

    #[test]
    fn what_may_be_below_a_name_is_wanted_or_not() {
        for (meters, wanted) in [
            (&["raid"][..], true),
            (&["raid.*"], true),
            (&["raid.wear"], true),
            (&["r*"], true),
            (&["*.wear"], true),
            (&["*"], true),
            (&["!raid"], true),
            (&["!raid.*"], true),
            (&["!raid.wear"], true),
            (&["!raid*"], false),
            (&["*", "!raid*"], false),
            (&["raid2"], false),
            (&["rai"], false),
            (&["raid."], false),
            (&["raid2.*"], false),
            (&["storage*"], false),
        ] {
            assert_eq!(
                filter(meters).unwrap().may_want("raid"),
                wanted,
                "{meters:?}"
            );
        }
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        for (meters, error) in [
            (&[][..], FilterError::Nothing),
            (&["a", ""], FilterError::EmptyName),
            (&["!"], FilterError::EmptyName),
            (&["a", "!b"], FilterError::Mixed),
            (&["*", "a"], FilterError::BesideWildcard),
        ] {
            assert_eq!(filter(meters), Err(error), "{meters:?}");
        }
    }

    #[test]
    fn a_pattern_of_stars_costs_no_more_than_its_size() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)));
        assert!(!matches(
            &format!("{}b", "*a".repeat(200)),
            &"a".repeat(2000)
        ));
    }

    proptest! {
        #[test]
        fn what_matches_below_is_never_denied(pattern in "[ab.*?]{0,6}", name in "[ab]{1,3}", rest in "[ab.]{1,3}") {
            let is_denied = !may_match_below(&pattern, &name);
            let meter = format!("{name}.{rest}");
            prop_assert!(!is_denied || !matches(&pattern, &meter));
        }

        #[test]
        fn a_plain_name_matches_itself_alone(a in "[a-z.]{0,8}", b in "[a-z.]{0,8}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn a_star_stands_for_anything(a in "[a-z.]{0,8}", b in any::<String>(), c in "[a-z.]{0,8}") {
            let pattern = format!("{a}*{c}");
            let meter = format!("{a}{b}{c}");
            prop_assert!(matches(&pattern, &meter));
        }

        #[test]
        fn no_pattern_is_too_strange(pattern in "[*?a\\[\\]!-]{0,12}", meter in "[a!\\[\\]-]{0,12}") {
            matches(&pattern, &meter);
        }
    }
}
