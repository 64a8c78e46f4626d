use super::*;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    entries.iter().map(owned).collect()
}

fn user() -> UserInfo {
    UserInfo {
        user: "u3".into(),
        metas: map(&[("a", "1")]),
        run_id: "bc9c1a789be9bcce".into(),
    }
}

fn of_user<M>(message: M) -> OfSession<M> {
    OfSession {
        user: user(),
        message,
    }
}

#[track_caller]
fn says(content: &impl Content, body: &str) {
    assert_eq!(String::from_utf8(content.request()).unwrap(), body);
}

#[test]
fn requests_are_those_of_the_specification() {
    let login = Login {
        version: "0.70.1".into(),
        hostname: "host1".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        user: "u3".into(),
        privilege_key: "1d5a57d160c80dce542475eecdde274f".into(),
        timestamp: 1_795_407_492,
        client_id: "cid3".into(),
        metas: map(&[("a", "1")]),
        pool_count: 1,
        ..Login::default()
    };
    let login = LoginContent {
        login,
        client_address: "127.0.0.1:43400".into(),
    };
    says(
        &login,
        r#"{"version":"0.1.0","op":"Login","content":{"version":"0.70.1","hostname":"host1","os":"linux","arch":"amd64","user":"u3","privilege_key":"1d5a57d160c80dce542475eecdde274f","timestamp":1795407492,"client_id":"cid3","metas":{"a":"1"},"client_spec":{},"pool_count":1,"client_address":"127.0.0.1:43400"}}"#,
    );
    let proxy = NewProxy {
        proxy_name: "u3.t".into(),
        proxy_type: "tcp".into(),
        metas: map(&[("b", "2")]),
        annotations: map(&[("c", "3")]),
        remote_port: 62_720,
        ..NewProxy::default()
    };
    says(
        &of_user(proxy),
        r#"{"version":"0.1.0","op":"NewProxy","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":"bc9c1a789be9bcce"},"proxy_name":"u3.t","proxy_type":"tcp","metas":{"b":"2"},"annotations":{"c":"3"},"remote_port":62720}}"#,
    );
    let close = OfSession {
        user: UserInfo {
            user: "ua".into(),
            run_id: "b74a64af53cd5d40".into(),
            ..UserInfo::default()
        },
        message: CloseProxy {
            proxy_name: "ua.tt".into(),
        },
    };
    says(
        &close,
        r#"{"version":"0.1.0","op":"CloseProxy","content":{"user":{"user":"ua","metas":null,"run_id":"b74a64af53cd5d40"},"proxy_name":"ua.tt"}}"#,
    );
    says(
        &of_user(Ping::default()),
        r#"{"version":"0.1.0","op":"Ping","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":"bc9c1a789be9bcce"}}}"#,
    );
    let work = NewWorkConn {
        run_id: "bc9c1a789be9bcce".into(),
        ..NewWorkConn::default()
    };
    says(
        &of_user(work),
        r#"{"version":"0.1.0","op":"NewWorkConn","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":"bc9c1a789be9bcce"},"run_id":"bc9c1a789be9bcce"}}"#,
    );
    let conn = NewUserConn {
        proxy_name: "u3.t".into(),
        proxy_type: "tcp".into(),
        remote_addr: "127.0.0.1:59096".into(),
    };
    says(
        &of_user(conn),
        r#"{"version":"0.1.0","op":"NewUserConn","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":"bc9c1a789be9bcce"},"proxy_name":"u3.t","proxy_type":"tcp","remote_addr":"127.0.0.1:59096"}}"#,
    );
}

fn ping(body: &str) -> Result<Verdict<OfSession<Ping>>, AnswerError> {
    Content::answer(body.as_bytes())
}

#[test]
fn answers_reject_change_or_leave() {
    assert_eq!(
        ping(r#"{"reject":true,"reject_reason":"no"}"#),
        Ok(Verdict::Rejected("no".into()))
    );
    assert_eq!(ping(r#"{"unchange":true}"#), Ok(Verdict::Unchanged));
    assert_eq!(
        ping(r#"{"UnChange":true,"content":null,"more":[1]}"#),
        Ok(Verdict::Unchanged)
    );
    let changed = r#"{"content":{"User":{"user":"x","metas":{"k":"v"}},"timestamp":7}}"#;
    let user = UserInfo {
        user: "x".into(),
        metas: map(&[("k", "v")]),
        ..UserInfo::default()
    };
    let message = Ping {
        timestamp: 7,
        ..Ping::default()
    };
    assert_eq!(
        ping(changed),
        Ok(Verdict::Changed(OfSession { user, message }))
    );
}

#[test]
fn a_changed_login_replaces_every_field() {
    let body =
        br#"{"unchange":false,"content":{"user":"new","client_spec":null,"client_address":"a"}}"#;
    let Ok(Verdict::Changed(content)) = LoginContent::answer(body) else {
        panic!("not a change");
    };
    assert_eq!(content.client_address, "a");
    let expected = Login {
        user: "new".into(),
        ..Login::default()
    };
    assert_eq!(content.login, expected);
}

#[test]
fn answers_that_say_nothing_are_errors() {
    for body in ["{}", "null", r#"{"unchange":false,"content":null}"#] {
        assert_eq!(ping(body), Err(AnswerError::NoContent), "{body}");
    }
    for body in [
        "",
        "<html>",
        "[]",
        "{} {}",
        r#"{"unchange":"false"}"#,
        r#"{"reject":1}"#,
        r#"{"unchange":true,"content":[]}"#,
        r#"{"content":{"user":"name"}}"#,
        r#"{"content":{"timestamp":"1"}}"#,
        r#"{"content":{"timestamp":1.5}}"#,
    ] {
        assert!(matches!(ping(body), Err(AnswerError::Json(_))), "{body}");
    }
    let deep = format!(r#"{{"content":{}"#, "[".repeat(100_000));
    assert!(matches!(ping(&deep), Err(AnswerError::Json(_))));
}
