//! [`Browser`]: Chromium without a window, told what to do over its debugging protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::wait::{LIMIT, until, within};
use crate::{Failure, Outcome};

/// The program's name.
pub const PROGRAM: &str = "chromium";

/// A page needs files of its own and a first start of the browser.
const LOAD_LIMIT: std::time::Duration = LIMIT.saturating_mul(3);

/// Messages that nobody has asked for may be this many until one is asked for.
const WAITING: usize = 64;

/// What pages are operated with, by what a user reads on them.
const HANDS: &str = r#"
    globalThis.find = (selector, text) => [...document.querySelectorAll(selector)]
        .findLast((element) => element.checkVisibility() && element.textContent.trim().startsWith(text));
    globalThis.press = (text) => {
        const target = find("button, a, summary", text);
        target?.click();
        return !!target;
    };
    globalThis.enter = (label, value) => {
        const input = find("label", label)?.querySelector("input, textarea, select");
        if (!input) return false;
        input.value = value;
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new Event("change", { bubbles: true }));
        return true;
    };
    globalThis.reads = (text) => document.body.innerText.includes(text);
"#;

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: mpsc::Receiver<Value>,
    session: String,
    requests: u64,
}

impl Browser {
    /// Starts it with its files below `directory`. Every request of its page carries these credentials.
    pub async fn start(directory: &Path, user: &str, password: &str) -> Outcome<Self> {
        // The protocol is spoken on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1", PROGRAM])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--remote-debugging-pipe", "--no-first-run"])
            .arg(format!(
                "--user-data-dir={}",
                directory.join("browser").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("the browser has no pipes"));
        };
        let mut browser = Self {
            child,
            input,
            messages: received(output),
            session: String::new(),
            requests: 0,
        };
        let page = browser
            .ask("Target.createTarget", json!({"url": "about:blank"}))
            .await?;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach).await?;
        attached["sessionId"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut browser.session);
        browser.ask("Network.enable", json!({})).await?;
        let credentials = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let headers = json!({"headers": {"Authorization": credentials}});
        browser.ask("Network.setExtraHTTPHeaders", headers).await?;
        browser.ask("Page.enable", json!({})).await?;
        let hands = json!({"source": HANDS});
        browser
            .ask("Page.addScriptToEvaluateOnNewDocument", hands)
            .await?;
        Ok(browser)
    }

    /// Goes to a page.
    pub async fn open(&mut self, url: &str) -> Outcome {
        self.ask("Page.navigate", json!({"url": url})).await?;
        Ok(())
    }

    /// The value of an expression on the page.
    pub async fn evaluate(&mut self, expression: &str) -> Outcome<Value> {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", parameters).await?;
        if let Some(wrong) = answer.get("exceptionDetails") {
            return Err(Failure::new(format!("{expression}: {wrong}")));
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Evaluates an expression until it is true.
    pub async fn until(&mut self, expression: &str) -> Outcome {
        let done = until(expression, LOAD_LIMIT, async || {
            let value = self.evaluate(expression).await.ok()?;
            (value == Value::Bool(true)).then_some(())
        });
        if let Err(failure) = done.await {
            let shown = self.evaluate("document.body.innerText").await?;
            return Err(Failure::new(format!("{failure}; the page reads {shown}")));
        }
        Ok(())
    }

    /// Waits until the page shows a text.
    pub async fn reads(&mut self, text: &str) -> Outcome {
        self.until(&format!("reads({})", json!(text))).await
    }

    /// Presses the last button or link that begins with a text, once it is there.
    pub async fn press(&mut self, text: &str) -> Outcome {
        self.until(&format!("press({})", json!(text))).await
    }

    /// Fills the field with a label.
    pub async fn enter(&mut self, label: &str, value: &str) -> Outcome {
        self.until(&format!("enter({}, {})", json!(label), json!(value)))
            .await
    }

    /// Calls a method of the protocol.
    async fn ask(&mut self, method: &str, parameters: Value) -> Outcome<Value> {
        self.requests += 1;
        let id = self.requests;
        let mut request = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes)?;
        self.input.flush()?;
        let messages = &mut self.messages;
        let answer = within(
            format!("the browser's answer to {method}"),
            LOAD_LIMIT,
            async {
                loop {
                    match messages.recv().await {
                        Some(message) if message["id"] == id => return Some(message),
                        Some(_) => {}
                        None => return None,
                    }
                }
            },
        );
        let answer = answer
            .await?
            .ok_or_else(|| Failure::new("the browser has ended"))?;
        match answer.get("error") {
            Some(error) => Err(Failure::new(format!("{method}: {error}"))),
            None => Ok(answer["result"].clone()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the browser says.
fn received(output: ChildStdout) -> mpsc::Receiver<Value> {
    let (sender, messages) = mpsc::channel(WAITING);
    thread::spawn(move || {
        for message in BufReader::new(output).split(0) {
            let Some(value) = message
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            else {
                return;
            };
            if sender.blocking_send(value).is_err() {
                return;
            }
        }
    });
    messages
}
