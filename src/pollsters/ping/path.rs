//! Pure. Whether this node has a path to a target at all, judged from its own routes and links.

/// What our own side of the path to one target looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathState {
    /// There is a route by the right interface, and its link is up.
    Usable,
    /// There is a route, but the interface has no link.
    LinkDown,
    /// No route by the right interface.
    NoRoute,
    /// The interface that it should go by doesn't exist.
    NoInterface,
    /// The source address that it should go from isn't on this host.
    NoAddress,
    /// The route leads through another interface than the pinned one.
    Elsewhere,
}

impl PathState {
    /// Whether probes can be tried. Without a link they still are: an answer would outweigh what
    /// the link says of itself.
    pub fn can_send(self) -> bool {
        matches!(self, PathState::Usable | PathState::LinkDown)
    }
}

/// Which interface a target's probes and answers must use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin<'a> {
    /// `storage_interface`: routes by other interfaces don't count and don't matter.
    Configured(&'a str),
    /// The interface of the first answer: where the kernel would send storage traffic is compared
    /// with it.
    Remembered(&'a str),
    /// None yet: whatever route is in use.
    Free,
}

/// One interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Switched on, and its link is up.
    pub is_running: bool,
}

/// The path to one target: its state, and the interface if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// What it looks like.
    pub state: PathState,
    /// The interface that probes leave by.
    pub link: Option<Link>,
}

impl Path {
    /// A path that can't be used.
    pub fn unusable(state: PathState) -> Self {
        Path { state, link: None }
    }

    /// The path by the interface that a route named.
    pub fn by(link: Link, pin: Pin<'_>) -> Self {
        let state = match pin {
            Pin::Remembered(name) if name != link.name => PathState::Elsewhere,
            _ if !link.is_running => PathState::LinkDown,
            _ => PathState::Usable,
        };
        Path {
            state,
            link: Some(link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_by_another_interface_than_the_remembered_one_leads_elsewhere() {
        let link = |is_running| Link {
            index: 2,
            name: "st0".into(),
            is_running,
        };
        for (pin, running, expected) in [
            (Pin::Free, true, PathState::Usable),
            (Pin::Free, false, PathState::LinkDown),
            (Pin::Configured("st0"), true, PathState::Usable),
            (Pin::Remembered("st0"), true, PathState::Usable),
            (Pin::Remembered("st0"), false, PathState::LinkDown),
            (Pin::Remembered("mgmt0"), true, PathState::Elsewhere),
        ] {
            assert_eq!(
                Path::by(link(running), pin).state,
                expected,
                "{pin:?} {running}"
            );
        }
    }
}
