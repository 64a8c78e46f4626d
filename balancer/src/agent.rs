//! What a member's agent says of it (balancing.md §7), in the words of `HAProxy`'s agent checks.

/// The longest line of an agent, in bytes.
pub const MAX_AGENT_LINE: usize = 256;
/// Highest weight that an agent may ask for, in percent or by itself.
const MAX_WEIGHT: u32 = 1_000;

/// One line of an agent: words between blanks or commas, each of which changes one thing; what none is about stays.
///
/// | word | effect |
/// |--|--|
/// | `75%` | that share of the configured weight |
/// | `weight:N` | this weight |
/// | `maxconn:N` | at most so many connections; 0 = as configured |
/// | `drain` | no new users but those that belong to the member |
/// | `ready` | ends `drain` |
/// | `down`, `failed`, `stopped`, `maint` | out of service |
/// | `up` | ends these |
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AgentReport {
    pub(crate) weight: Option<AgentWeight>,
    pub(crate) max_connections: Option<u32>,
    pub(crate) drain: Option<bool>,
    pub(crate) down: Option<bool>,
}

/// A weight that an agent asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum AgentWeight {
    /// Of the configured one.
    Percent(u32),
    Absolute(u32),
}

impl AgentWeight {
    pub(crate) fn of(self, configured: u32) -> f32 {
        match self {
            Self::Percent(percent) => configured as f32 * percent as f32 / 100.0,
            Self::Absolute(weight) => weight as f32,
        }
    }
}

/// A line that no agent says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// More than [`MAX_AGENT_LINE`] bytes.
    #[error("more than {MAX_AGENT_LINE} bytes in a line")]
    TooLong,
    /// Not one of the words.
    #[error(
        "{0:?}: want N%, weight:N, maxconn:N, ready, drain, up, down, failed, stopped or maint"
    )]
    Unknown(String),
}

impl AgentReport {
    /// Reads a line. What follows a `#` is a remark for people.
    pub fn parse(line: &str) -> Result<Self, AgentError> {
        if line.len() > MAX_AGENT_LINE {
            return Err(AgentError::TooLong);
        }
        let said = line.split('#').next().unwrap_or_default();
        let mut report = Self::default();
        for word in said.split([' ', '\t', ',', '\r', '\n']) {
            if !word.is_empty() && report.take(word).is_none() {
                return Err(AgentError::Unknown(word.to_owned()));
            }
        }
        Ok(report)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let weight = |text: &str| text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
        if let Some(percent) = word.strip_suffix('%') {
            self.weight = Some(AgentWeight::Percent(weight(percent)?));
        } else if let Some(absolute) = word.strip_prefix("weight:") {
            self.weight = Some(AgentWeight::Absolute(weight(absolute)?));
        } else if let Some(max) = word.strip_prefix("maxconn:") {
            self.max_connections = Some(max.parse().ok()?);
        } else {
            match word {
                "ready" => self.drain = Some(false),
                "drain" => self.drain = Some(true),
                "up" => self.down = Some(false),
                "down" | "failed" | "stopped" | "maint" => self.down = Some(true),
                _ => return None,
            }
        }
        Some(())
    }

    /// What holds after `newer` has been said.
    pub(crate) fn and(self, newer: Self) -> Self {
        Self {
            weight: newer.weight.or(self.weight),
            max_connections: newer.max_connections.or(self.max_connections),
            drain: newer.drain.or(self.drain),
            down: newer.down.or(self.down),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        let report =
            AgentReport::parse("75%, maxconn:30\tdrain down # disk is full, up\n").unwrap();
        let expected = AgentReport {
            weight: Some(AgentWeight::Percent(75)),
            max_connections: Some(30),
            drain: Some(true),
            down: Some(true),
        };
        assert_eq!(report, expected);
        let later = report.and(AgentReport::parse("ready up weight:3").unwrap());
        let expected = AgentReport {
            weight: Some(AgentWeight::Absolute(3)),
            max_connections: Some(30),
            drain: Some(false),
            down: Some(false),
        };
        assert_eq!(later, expected);
        assert_eq!(AgentReport::parse("\r\n"), Ok(AgentReport::default()));
    }

    #[test]
    fn what_nobody_says_is_refused() {
        for word in ["75", "-1%", "1001%", "weight:", "maxconn:x", "UP", "é%"] {
            let error = AgentReport::parse(&format!("up {word}")).unwrap_err();
            assert_eq!(error, AgentError::Unknown(word.to_owned()));
        }
        let long = "up ".repeat(MAX_AGENT_LINE);
        assert_eq!(AgentReport::parse(&long), Err(AgentError::TooLong));
    }
}
