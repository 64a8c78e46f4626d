//! `includes`: which files a list of patterns names (config-frpc.md §2.5).

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::ConfigError;
use super::read::os_error;

/// More files than this are a mistake, such as a pattern over a home directory.
const MAX_FILES: usize = 1000;

/// The files in loading order. The directory of a pattern is literal, its last part a pattern; no match is no error.
pub(super) fn files(patterns: &[String]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let path = std::path::absolute(if pattern.is_empty() { "." } else { pattern })
            .map(|p| clean(&p))
            .map_err(|e| ConfigError(format!("{pattern}: {}", os_error(&e))))?;
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            continue;
        };
        fs::metadata(dir)
            .map_err(|e| ConfigError(format!("stat {}: {}", dir.display(), os_error(&e))))?;
        let mut matching = fs::read_dir(dir)
            .and_then(|entries| {
                entries
                    .filter(|e| {
                        e.as_ref()
                            .map_or(true, |e| !e.file_type().is_ok_and(|t| t.is_dir()))
                    })
                    .map(|e| e.map(|e| e.file_name()))
                    .filter(|e| {
                        e.as_ref()
                            .map_or(true, |n| n.to_str().is_some_and(|n| matches(name, n)))
                    })
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(|e| ConfigError(format!("open {}: {}", dir.display(), os_error(&e))))?;
        matching.sort();
        files.extend(matching.into_iter().map(|name| dir.join(name)));
        if files.len() > MAX_FILES {
            return Err(ConfigError(format!(
                "includes name more than {MAX_FILES} files"
            )));
        }
    }
    Ok(files)
}

/// Takes `..` away by name, as Go does.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            out.pop();
        } else {
            out.push(component);
        }
    }
    out
}

/// Go's `filepath.Match` of one path element: `*`, `?`, `[set]`, `[^set]` and `\x`; a malformed pattern matches nothing.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(pattern) = parse(pattern) else {
        return false;
    };
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(Glob::Star) => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(Glob::One(set)) if set.contains(name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (p, n) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|g| matches!(g, Glob::Star))
}

enum Glob {
    Star,
    One(Set),
}

/// Characters one place may hold.
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn contains(&self, c: char) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&c))
            != self.negated
    }
}

fn parse(pattern: &str) -> Option<Vec<Glob>> {
    let mut chars = pattern.chars().peekable();
    let mut globs = Vec::new();
    while let Some(c) = chars.next() {
        let exactly = |c| Set {
            negated: false,
            ranges: vec![(c, c)],
        };
        globs.push(match c {
            '*' => Glob::Star,
            '?' => Glob::One(Set {
                negated: true,
                ranges: Vec::new(),
            }),
            '\\' => Glob::One(exactly(chars.next()?)),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let low = set_char(&mut chars)?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => set_char(&mut chars)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                chars.next();
                Glob::One(Set { negated, ranges })
            }
            c => Glob::One(exactly(c)),
        });
    }
    Some(globs)
}

fn set_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_go_matches_them() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("extra-*.toml", "extra-.toml"),
            ("?.toml", "ä.toml"),
            ("[a-c]x", "bx"),
            ("[^a-c]x", "dx"),
            ("a\\*", "a*"),
            ("*a*b", "xaxxab"),
            ("[\\]]", "]"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.toml", "a.toml2"),
            ("?.toml", ".toml"),
            ("[a-c]x", "dx"),
            ("[^a-c]x", "ax"),
            ("[a-", "a"),
            ("[]a]", "a"),
            ("a\\", "a"),
            ("[-a]", "-"),
            ("*a*b", "xaxx"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
        assert!(!matches(
            &format!("{}b", "a*".repeat(100)),
            &"a".repeat(200)
        ));
    }
}
