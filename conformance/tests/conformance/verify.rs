//! `verify` over files with every key, and over the same files with each key made wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::peers::{Maker, Programs};
use conformance::{Case, Lab, Outcome};
use serde_json::{Map, Value, json};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("verify/examples", examples),
        Case::pair("verify/own_keys", own_keys),
        Case::pair("verify/wrong_values", wrong_values).heavy(),
    ]
}

/// The files of this directory; the first four letters of a name are the program's.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// What `verify` prints, without our lines that show where something is, and its exit code.
fn verify(programs: &Programs, file: &Path, more: &[&str]) -> Outcome<(String, Option<i32>)> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let program = programs.path(&name[..4]);
    let mut command = Command::new(program);
    let output = command.arg("verify").arg("-c").arg(file).args(more);
    let output = output.output()?;
    let mut printed = String::new();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().filter(|line| !line.starts_with("  --> "));
        printed.extend(lines.flat_map(|line| [line, "\n"]));
    }
    Ok((printed, output.status.code()))
}

/// Both makers say the same of every file, and take it once all it uses is allowed.
async fn examples(lab: &Lab) -> Outcome {
    let mut formats = Vec::new();
    for entry in std::fs::read_dir(directory())? {
        let file = entry?.path();
        if file.is_dir() {
            continue;
        }
        let allowed = ["--allow-unsafe", "TokenSourceExec"];
        for more in [&[][..], &allowed] {
            let [one, other] = [&lab.frps, &lab.frpc].map(|p| verify(p, &file, more));
            let (one, other) = (one?, other?);
            assert_eq!(one, other, "{}", file.display());
            if !more.is_empty() {
                assert_eq!(one.1, Some(0), "{}", one.0);
            }
        }
        formats.extend(file.extension().map(ToOwned::to_owned));
    }
    for format in ["toml", "yaml", "json", "ini"] {
        assert!(formats.iter().any(|f| f == format), "{format}");
    }
    Ok(())
}

/// Files with the keys that only our programs have are good for these, and for upstream's once unknown keys are let pass.
async fn own_keys(lab: &Lab) -> Outcome {
    for (programs, name) in [(&lab.frps, "frps"), (&lab.frpc, "frpc")] {
        let file = directory().join(format!("ours/{name}.toml"));
        let (lax, code) = verify(programs, &file, &["--strict-config=false"])?;
        assert_eq!(code, Some(0), "{lax}");
        let (strict, code) = verify(programs, &file, &[])?;
        if programs.maker == Maker::Ours {
            assert_eq!((&strict, code), (&lax, Some(0)));
        } else {
            assert!(strict.contains("unknown field"), "{strict}");
            assert_eq!(code, Some(1));
        }
    }
    Ok(())
}

/// What may stand where something else belongs.
fn wrong() -> Vec<Value> {
    vec![
        json!("x"),
        json!(-1),
        json!([1]),
        json!({"x": 1}),
        json!(true),
        json!(70000),
        json!(1.5),
        json!(""),
        json!(null),
        json!([]),
        json!({}),
        json!([{}]),
    ]
}

/// Each key of the JSON files gets a wrong value; when minutes do not matter, all of them, and is left out.
async fn wrong_values(lab: &Lab) -> Outcome {
    let wrong = wrong();
    let few = if lab.long { wrong.len() } else { 1 };
    for program in ["frps", "frpc"] {
        let text = std::fs::read_to_string(directory().join(format!("{program}.json")))?;
        let whole: Value = serde_json::from_str(&text)?;
        let mut pointers = Vec::new();
        collect(&whole, String::new(), &mut pointers);
        for (at, pointer) in pointers.iter().enumerate() {
            // Each key gets others of them, so that all are used.
            let some = wrong.iter().cycle().skip(at).take(few);
            for value in some.map(Some).chain(lab.long.then_some(None)) {
                let mut changed = whole.clone();
                match (value, changed.pointer_mut(pointer)) {
                    (Some(value), Some(place)) => *place = value.clone(),
                    _ => remove(&mut changed, pointer),
                }
                let file = lab.directory().join(format!("{program}.json"));
                std::fs::write(&file, changed.to_string())?;
                let one = verify(&lab.frps, &file, &[])?;
                let other = verify(&lab.frpc, &file, &[])?;
                assert_eq!(one, other, "{program} {pointer}: {value:?}");
            }
        }
    }
    Ok(())
}

/// JSON pointers (RFC 6901) of all that is in `value`.
fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.map(|(n, value)| (n.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in inner {
        collect(value, format!("{at}/{key}"), pointers);
    }
    pointers.push(at);
}

/// Takes out what `pointer` points at; the whole leaves nothing.
fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        *value = Value::Object(Map::new());
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.remove(&key)),
        Some(Value::Array(items)) => {
            let at = key.parse().unwrap_or(0);
            drop(items.remove(at));
        }
        _ => {}
    }
}
