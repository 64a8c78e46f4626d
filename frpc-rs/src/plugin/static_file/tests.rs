use super::*;
use std::fs::FileTimes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Tue, 02 Jan 2024 03:04:05 GMT.
const CHANGED: Duration = Duration::from_secs(1_704_164_645);

fn site() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir(root.join("sub")).unwrap();
    std::fs::create_dir(root.join("idx")).unwrap();
    for (name, content) in [
        ("a.txt", "hello world\n"),
        ("sub/s.json", "{}"),
        ("idx/index.html", "<p>hi</p>"),
    ] {
        std::fs::write(root.join(name), content).unwrap();
        let at = SystemTime::UNIX_EPOCH + CHANGED;
        let file = std::fs::File::options().append(true).open(root.join(name));
        file.unwrap()
            .set_times(FileTimes::new().set_modified(at))
            .unwrap();
    }
    directory
}

/// The raw answer to one request, without its date.
async fn ask(c: &StaticFilePlugin, method: &str, path: &str, fields: &str) -> String {
    let plugin = StaticFile::new(c);
    let (mut near, far) = duplex(1 << 20);
    let serve = async { plugin.serve(Conn::Other(Box::new(far))).await };
    let talk = async {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        near.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (answer, ()) = tokio::join!(talk, serve);
    String::from_utf8_lossy(&answer)
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Date: ") && *line != "Connection: close\r\n")
        .collect()
}

fn open_to_all(directory: &tempfile::TempDir) -> StaticFilePlugin {
    StaticFilePlugin {
        local_path: directory.path().to_str().unwrap().into(),
        ..StaticFilePlugin::default()
    }
}

#[tokio::test]
async fn a_file_is_served_whole_and_in_parts() {
    let directory = site();
    let c = open_to_all(&directory);
    assert_eq!(
        ask(&c, "GET", "/a.txt", "").await,
        "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 12\r\n\
         Content-Type: text/plain; charset=utf-8\r\nLast-Modified: Tue, 02 Jan 2024 03:04:05 GMT\r\n\r\n\
         hello world\n"
    );
    assert_eq!(
        ask(&c, "GET", "/a.txt", "Range: bytes=1-3\r\n").await,
        "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\nContent-Length: 3\r\n\
         Content-Range: bytes 1-3/12\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Last-Modified: Tue, 02 Jan 2024 03:04:05 GMT\r\n\r\nell"
    );
    let two = ask(&c, "GET", "/a.txt", "Range: bytes=0-1,3-4\r\n").await;
    let (head, body) = two.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{two}"
    );
    assert!(body.contains(
        "Content-Range: bytes 0-1/12\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhe\r\n--"
    ));
    assert!(body.contains("\r\n\r\nlo\r\n--") && body.ends_with("--\r\n"));
    let beyond = ask(&c, "GET", "/a.txt", "Range: bytes=100-\r\n").await;
    assert!(beyond.starts_with("HTTP/1.1 416 "));
    assert!(beyond.contains("Content-Range: bytes */12\r\n"));
    assert!(beyond.ends_with("invalid range: failed to overlap\n"));
}

#[tokio::test]
async fn statuses_and_places() {
    let directory = site();
    let c = open_to_all(&directory);
    for (method, path, fields, status, location) in [
        ("GET", "/nope", "", "404", ""),
        ("GET", "/a%00b", "", "404", ""),
        ("GET", "/a.txt/b", "", "404", ""),
        ("HEAD", "/a.txt", "", "405", ""),
        ("POST", "/nope", "", "405", ""),
        ("GET", "/../a.txt", "", "301", "/a.txt"),
        (
            "GET",
            "/sub/..%2f..%2fetc/passwd?q",
            "",
            "301",
            "/etc/passwd?q",
        ),
        ("GET", "//evil.test/", "", "301", "/evil.test/"),
        ("GET", "/sub", "", "301", "sub/"),
        ("GET", "/a.txt/", "", "301", "../a.txt"),
        ("GET", "/idx/index.html?q=1", "", "301", "./?q=1"),
        ("GET", "/idx/", "", "200", ""),
        ("GET", "/sub/", "", "200", ""),
        (
            "GET",
            "/a.txt",
            "If-Modified-Since: Tue, 02 Jan 2024 03:04:05 GMT\r\n",
            "304",
            "",
        ),
        ("GET", "/a.txt", "If-Match: \"x\"\r\n", "412", ""),
    ] {
        let answer = ask(&c, method, path, fields).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        if !location.is_empty() {
            assert!(
                answer.contains(&format!("Location: {location}\r\n")),
                "{path}: {answer}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_below_the_prefix_only() {
    let directory = site();
    let c = StaticFilePlugin {
        strip_prefix: "pre".into(),
        http_user: "u".into(),
        http_password: "p".into(),
        ..open_to_all(&directory)
    };
    assert!(
        ask(&c, "GET", "/a.txt", "")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    assert!(
        ask(&c, "GET", "/pre", "")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    let started = tokio::time::Instant::now();
    let refused = ask(&c, "GET", "/pre/a.txt", "Authorization: Basic eDp5\r\n").await;
    assert!(started.elapsed() >= PENALTY);
    assert!(refused.starts_with("HTTP/1.1 401 "));
    assert!(refused.contains("Www-Authenticate: Basic realm=\"Restricted\"\r\n"));
    let served = ask(&c, "GET", "/pre/a.txt", "Authorization: Basic dTpw\r\n").await;
    assert!(served.ends_with("hello world\n"));
}

#[tokio::test]
async fn compressed_when_the_client_can() {
    let directory = site();
    let text = "frp ".repeat(100_000);
    std::fs::write(directory.path().join("long.txt"), &text).unwrap();
    let mut body = gzip_body(directory.path().join("long.txt"), text.len() as u64).await;
    let mut plain = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(std::io::Cursor::new(std::mem::take(&mut body))),
        &mut plain,
    )
    .unwrap();
    assert!(plain == text);
    let answer = ask(
        &open_to_all(&directory),
        "GET",
        "/a.txt",
        "Accept-Encoding: gzip\r\n",
    )
    .await;
    assert!(answer.contains("Content-Encoding: gzip\r\n") && !answer.contains("Content-Length"));
}

async fn gzip_body(path: PathBuf, len: u64) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    let file = File::open(path).await.unwrap();
    let collected = body::gzipped(file, len).collect().await.unwrap();
    collected.to_bytes().to_vec()
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_is_no_file() {
    let directory = site();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let answer = ask(&open_to_all(&directory), "GET", "/pipe", "").await;
    assert!(answer.starts_with("HTTP/1.1 404 "));
}
