//! How a client's dial of its local service went: the first byte of a work connection's payload, if its `StartWorkConn` asks
//! (balancing.md §4.1). Ours, not upstream's.

/// The result of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The service is there; its bytes follow.
    Reached,
    /// It is not, and nothing of the user has reached it.
    Refused,
}

impl Verdict {
    /// As it is on the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Reached => 0,
            Self::Refused => 1,
        }
    }

    /// What a byte says; `None`: nothing that is known.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        [Self::Reached, Self::Refused]
            .into_iter()
            .find(|verdict| verdict.byte() == byte)
    }
}
