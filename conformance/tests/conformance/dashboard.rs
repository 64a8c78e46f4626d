//! The dashboards, in a browser.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::browser::{self, Browser};
use conformance::managed::{Managed, tcp};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports, service};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        Case::pair("dashboard/frps", of_frps),
        Case::pair("dashboard/frpc", of_frpc),
    ];
    let why = "upstream's has other pages, and is built without them here";
    let cases = cases.into_iter();
    cases
        .map(|case| case.needs(browser::PROGRAM).ours_only(why).heavy())
        .collect()
}

/// A name that is a script where it is not taken for a text.
const SCRIPT: &str = "<img src=x onerror=document.title=1>";

async fn of_frps(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = lab
        .setup()
        .frps("webServer.port", web)
        .frps("webServer.user", "u")
        .frps("webServer.password", "p:q")
        .frpc("clientID", "here")
        .frpc("user", "ann")
        .named(SCRIPT);
    let mut pair = setup.start().await?;
    pair.echo().await?;
    let mut browser = Browser::start(lab.directory(), "u", "p:q").await?;
    browser.open(&format!("http://127.0.0.1:{web}/")).await?;
    browser.reads("Server Configuration").await?;
    browser.press("Clients").await?;
    browser.press("ann.here").await?;
    browser.reads("First Connected").await?;
    browser.reads(&format!("ann.{SCRIPT}")).await?;

    // The proxy, and what may be done to it.
    browser.press("ann.<img").await?;
    browser.reads("Traffic Statistics").await?;
    let chart = "document.querySelectorAll('svg rect').length === 14";
    browser.until(chart).await?;
    browser.press("Disable").await?;
    browser.press("Disable").await?;
    browser.reads("The name is refused now.").await?;
    browser.press("Overview").await?;
    browser.press("Enable ann.").await?;
    browser.reads("may be registered again").await?;

    // The client comes back with the proxy.
    browser
        .evaluate("location.hash = '#/clients/ann.here'")
        .await?;
    browser.press("Kick").await?;
    browser.press("Kick").await?;
    browser.reads("The session has ended.").await?;
    pair.frpc.logs_times("login to server success", 2).await?;
    pair.works().await?;
    browser.press("Proxies").await?;
    browser.press("UDP").await?;
    browser.reads("No proxies").await?;
    browser.press("All").await?;
    browser.reads("Online").await?;
    assert_eq!(browser.evaluate("document.title").await?, "frp server");
    Ok(())
}

async fn of_frpc(lab: &Lab) -> Outcome {
    let managed = Managed::start(lab, &tcp("file", "ECHO", ports::free(), "")).await?;
    let mut browser = Browser::start(lab.directory(), "", "").await?;
    let page = |path: &str| format!("http://{}/static/#{path}", managed.admin);
    browser.open(&page("/")).await?;
    browser.reads("running").await?;

    // One is made, changed, switched off and deleted.
    let (first, second) = (ports::free(), ports::free());
    let user = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let served = async |port| {
        until("the proxy serves", LIMIT, async || {
            service::echo(user(port), 100).await.ok()
        })
        .await
    };
    browser.press("Store").await?;
    browser.press("+ New Proxy").await?;
    browser.enter("Name", "made").await?;
    browser.enter("Remote Port", &first.to_string()).await?;
    browser
        .enter("Local Port", &managed.echo.port().to_string())
        .await?;
    browser.press("Metadata").await?;
    browser.enter("Metadata", "colour: blue: light").await?;
    browser.press("Create").await?;
    browser.reads("made is created.").await?;
    served(first).await?;
    browser.press("made").await?;
    browser.reads("colour: blue: light").await?;
    browser.press("Edit").await?;
    browser.enter("Remote Port", &second.to_string()).await?;
    browser.press("Update").await?;
    browser.reads("made is updated.").await?;
    served(second).await?;
    let stored = managed
        .ask("GET", "/api/store/proxies/made", "")
        .await?
        .body;
    assert!(stored.contains(r#""colour":"blue: light""#), "{stored}");
    browser.press("Disable").await?;
    browser.reads("made is disabled.").await?;
    browser.press("Delete").await?;
    browser.press("Delete").await?;
    browser.reads("made is deleted.").await?;

    // What is wrong is said.
    browser.press("+ New Proxy").await?;
    browser.enter("Type", "http").await?;
    browser.enter("Name", "web").await?;
    browser.enter("Local Port", "80").await?;
    browser.press("Create").await?;
    browser
        .reads("Custom domains or a subdomain are needed.")
        .await?;

    // Work is not lost by going elsewhere.
    browser.press("Config").await?;
    browser.reads("Leave without saving?").await?;
    browser.press("Leave").await?;
    let text = std::fs::read_to_string(&managed.file)?;
    let third = ports::free();
    let text = format!("{text}\n{}", tcp("edited", managed.echo.port(), third, ""));
    let area = "document.querySelector('textarea')";
    browser
        .until(&format!("{area}.value.includes('file')"))
        .await?;
    let enter = format!("{area}.value = {}; true", serde_json::json!(text));
    browser.until(&enter).await?;
    browser.press("Update & Reload").await?;
    browser.press("Update & Reload").await?;
    browser.reads("The configuration is loaded.").await?;
    served(third).await
}
