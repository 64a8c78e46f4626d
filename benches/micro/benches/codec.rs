//! Whole messages of wire version 1, to and from memory.

use divan::Bencher;
use divan::counter::BytesCount;
use frp_proto::msg::io::{read_message, write_message};
use frp_proto::msg::{Login, Message, NewProxy, Ping, StartWorkConn, UdpAddr, UdpPacket, Version};
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

const MESSAGES: [&str; 5] = ["Login", "NewProxy", "StartWorkConn", "Ping", "UdpPacket"];

#[divan::bench(args = MESSAGES)]
fn encode_v1(bencher: Bencher<'_, '_>, name: &str) {
    let (runtime, message) = (runtime(), message(name));
    let mut out = encoded(&runtime, &message);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        runtime
            .block_on(write_message(&mut out, Version::V1, &message))
            .expect("memory takes everything");
    });
}

#[divan::bench(args = MESSAGES)]
fn decode_v1(bencher: Bencher<'_, '_>, name: &str) {
    let runtime = runtime();
    let bytes = encoded(&runtime, &message(name));
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| {
            runtime
                .block_on(read_message(&mut &bytes[..], Version::V1))
                .expect("what was encoded can be decoded")
        });
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers")
}

fn encoded(runtime: &Runtime, message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    runtime
        .block_on(write_message(&mut bytes, Version::V1, message))
        .expect("memory takes everything");
    bytes
}

fn message(name: &str) -> Message {
    let text = str::to_owned;
    match name {
        "Login" => Message::Login(Box::new(Login {
            version: text("0.70.1"),
            hostname: text("gateway-7"),
            os: text("linux"),
            arch: text("amd64"),
            user: text("someone"),
            privilege_key: text("0123456789abcdef0123456789abcdef"),
            timestamp: 1_700_000_000,
            pool_count: 5,
            ..Login::default()
        })),
        "NewProxy" => Message::NewProxy(Box::new(NewProxy {
            proxy_name: text("someone.web"),
            proxy_type: text("http"),
            custom_domains: vec![text("www.example.com"), text("example.com")],
            locations: vec![text("/"), text("/api")],
            headers: [(text("x-from-where"), text("frp"))].into(),
            ..NewProxy::default()
        })),
        "StartWorkConn" => Message::StartWorkConn(StartWorkConn {
            proxy_name: text("someone.web"),
            src_addr: text("203.0.113.7"),
            dst_addr: text("198.51.100.9"),
            src_port: 51_234,
            dst_port: 6000,
            ..StartWorkConn::default()
        }),
        "Ping" => Message::Ping(Ping {
            privilege_key: text("0123456789abcdef0123456789abcdef"),
            timestamp: 1_700_000_000,
        }),
        _ => Message::UdpPacket(UdpPacket {
            content: vec![0xa5; 1400].into(),
            local: None,
            remote: Some(UdpAddr {
                ip: text("203.0.113.7"),
                port: 51_234,
                zone: String::new(),
            }),
        }),
    }
}
