//! One command that runs a tunnel: proves it with a request, says what to try next, and runs until Ctrl-C. The two
//! configuration files beside this crate are the ones to copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frp_proto::config;
use quickstart::{Demo, Result};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (frps_file, frpc_file) = (dir.join("frps.toml"), dir.join("frpc.toml"));
    let server = config::load_server(&frps_file, true, &BTreeMap::new())?.config;
    let client = config::load_client(&frpc_file, true, &BTreeMap::new())?.config;
    let service = TcpListener::bind("127.0.0.1:18080")
        .await
        .map_err(|e| format!("demo service on port 18080: {e}"))?;
    let public = ([127, 0, 0, 1], 16000).into();

    let demo = Demo::start(&server, client, service, public).await?;
    println!(
        "Through the tunnel, GET http://{public}/ answered: {}",
        demo.reply
    );
    println!("  demo service  127.0.0.1:18080   (what you would keep at home)");
    println!("  frps          127.0.0.1:17000   {}", shown(&frps_file));
    println!("  frpc          demo -> :16000    {}", shown(&frpc_file));
    println!("Try next:  curl http://{public}/");
    println!(
        "           copy the two files, put your server's address into frpc.toml, run frps and frpc with -c"
    );
    println!("Ctrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    demo.stop().await
}

/// The file as seen from where the user stands, if that is shorter.
fn shown(file: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::new());
    file.strip_prefix(here)
        .unwrap_or(file)
        .display()
        .to_string()
}
