//! Ids that nobody can guess.

/// 16 lower-case hex digits.
pub(crate) fn random() -> Result<String, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| format!("no random bytes for an id: {e}"))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
