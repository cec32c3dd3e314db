//! Lines into something that takes bytes, a part of a line at a time if it must be.

use std::io::{self, Write};

/// The rest of a line that was not taken whole.
#[derive(Debug, Default)]
pub(super) struct Stream {
    rest: Vec<u8>,
}

impl Stream {
    /// Writes a line. After an error the next call goes on where this one ended, so it must be for
    /// the same line.
    pub(super) fn write(
        &mut self,
        to: &mut impl Write,
        line: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.rest.is_empty() {
            self.rest = line().into_bytes();
            self.rest.push(b'\n');
        }
        while !self.rest.is_empty() {
            match to.write(&self.rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.rest.drain(..taken.min(self.rest.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next line begins anew, whatever became of the last one.
    pub(super) fn forget(&mut self) {
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes, then fails once, and so on.
    #[derive(Default)]
    struct Full {
        taken: Vec<u8>,
        is_full: bool,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            if self.is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_is_taken_in_parts_is_whole() {
        let (mut stream, mut full) = (Stream::default(), Full::default());
        for line in ["first line", "second"] {
            while stream.write(&mut full, || line.to_owned()).is_err() {}
        }
        assert_eq!(full.taken, b"first line\nsecond\n");
    }
}
