//! Configuration files, written under the names of the current TOML format.
//!
//! For programs that read only INI, `INI` tells the old name of a key; a key without one cannot be used with them.

use std::fmt::Write as _;

/// A value, as TOML writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A string without `"` and `\`.
    Text(String),
    /// Strings.
    Texts(Vec<&'static str>),
    /// Anything else, in TOML's own words; not for INI.
    Toml(String),
    /// `allowPorts`: one range.
    Ports(u16, u16),
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u16> for Value {
    fn from(v: u16) -> Self {
        Self::Int(v.into())
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<&[&'static str]> for Value {
    fn from(v: &[&'static str]) -> Self {
        Self::Texts(v.to_vec())
    }
}
impl From<std::ops::RangeInclusive<u16>> for Value {
    fn from(v: std::ops::RangeInclusive<u16>) -> Self {
        Self::Ports(*v.start(), *v.end())
    }
}

impl Value {
    fn toml(&self) -> String {
        match self {
            Self::Bool(v) => v.to_string(),
            Self::Int(v) => v.to_string(),
            Self::Text(v) => format!("\"{v}\""),
            Self::Toml(v) => v.clone(),
            Self::Texts(v) => format!("{v:?}"),
            Self::Ports(from, to) => format!("[{{ start = {from}, end = {to} }}]"),
        }
    }

    fn ini(&self) -> String {
        match self {
            Self::Text(v) => v.clone(),
            Self::Texts(v) => v.join(","),
            Self::Ports(from, to) => format!("{from}-{to}"),
            other => other.toml(),
        }
    }
}

/// Old names of keys.
const INI: [(&str, &str); 35] = [
    ("auth.token", "token"),
    ("allowPorts", "allow_ports"),
    ("allowUsers", "allow_users"),
    ("bindAddr", "bind_addr"),
    ("bindPort", "bind_port"),
    ("kcpBindPort", "kcp_bind_port"),
    ("localIP", "local_ip"),
    ("localPort", "local_port"),
    ("log.disablePrintColor", "disable_log_color"),
    ("log.level", "log_level"),
    ("loginFailExit", "login_fail_exit"),
    ("maxPortsPerClient", "max_ports_per_client"),
    ("proxyBindAddr", "proxy_bind_addr"),
    ("quicBindPort", "quic_bind_port"),
    ("remotePort", "remote_port"),
    ("secretKey", "sk"),
    ("serverAddr", "server_addr"),
    ("serverName", "server_name"),
    ("serverPort", "server_port"),
    ("serverUser", "server_user"),
    ("transport.heartbeatInterval", "heartbeat_interval"),
    ("transport.heartbeatTimeout", "heartbeat_timeout"),
    ("transport.poolCount", "pool_count"),
    ("transport.protocol", "protocol"),
    ("transport.proxyProtocolVersion", "proxy_protocol_version"),
    ("transport.tcpMux", "tcp_mux"),
    ("transport.tls.certFile", "tls_cert_file"),
    ("transport.tls.enable", "tls_enable"),
    ("transport.tls.force", "tls_only"),
    ("transport.tls.keyFile", "tls_key_file"),
    ("transport.tls.serverName", "tls_server_name"),
    ("transport.tls.trustedCaFile", "tls_trusted_ca_file"),
    ("transport.useCompression", "use_compression"),
    ("transport.useEncryption", "use_encryption"),
    ("udpPacketSize", "udp_packet_size"),
];

/// Keys and values in the order they were set; a key set again keeps its place.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<(&'static str, Value)>);

impl Keys {
    /// Sets a key.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// What a key that holds text is set to.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(k, value)| match value {
            Value::Text(text) if *k == key => Some(text.as_str()),
            _ => None,
        })
    }

    fn write(&self, ini: bool, out: &mut String) {
        for (key, value) in &self.0 {
            let (key, value) = if ini {
                (old_name(key), value.ini())
            } else {
                (*key, value.toml())
            };
            let _ = writeln!(out, "{key} = {value}");
        }
    }
}

fn old_name(key: &'static str) -> &'static str {
    let entry = INI.iter().find(|(new, _)| *new == key);
    // Names of one word did not change.
    entry.map_or(key, |(_, old)| old)
}

/// One proxy or visitor.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// Its keys, without the name. Without a `type` it is `tcp`.
    pub keys: Keys,
}

impl Proxy {
    /// Its type.
    pub fn kind(&self) -> &str {
        self.keys.text("type").unwrap_or("tcp")
    }

    /// Writes it as an entry of `list`.
    fn write(&self, list: &str, ini: bool, out: &mut String) {
        let _ = if ini {
            writeln!(out, "\n[{}]", self.name)
        } else {
            writeln!(out, "\n[[{list}]]\nname = \"{}\"", self.name)
        };
        if ini && list == "visitors" {
            out.push_str("role = visitor\n");
        }
        let mut keys = self.keys.clone();
        keys.set("type", self.kind());
        keys.write(ini, out);
    }
}

/// A whole file.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Keys of the program.
    pub keys: Keys,
    /// Proxies, in `frpc` files.
    pub proxies: Vec<Proxy>,
    /// Visitors, in `frpc` files.
    pub visitors: Vec<Proxy>,
}

impl Config {
    /// The content of the file.
    pub fn render(&self, ini: bool) -> String {
        let mut out = String::new();
        if ini {
            out.push_str("[common]\n");
        }
        self.keys.write(ini, &mut out);
        for proxy in &self.proxies {
            proxy.write("proxies", ini, &mut out);
        }
        for visitor in &self.visitors {
            visitor.write("visitors", ini, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let mut config = Config::default();
        config.keys.set("bindPort", 7000u16);
        config.keys.set("auth.token", "old");
        config.keys.set("allowPorts", 1..=2);
        config.keys.set("auth.token", "t");
        let mut keys = Keys::default();
        keys.set("transport.useEncryption", true);
        config.proxies.push(Proxy {
            name: "web".into(),
            keys,
        });
        assert_eq!(
            config.render(false),
            "bindPort = 7000\nauth.token = \"t\"\nallowPorts = [{ start = 1, end = 2 }]\n\n\
             [[proxies]]\nname = \"web\"\ntransport.useEncryption = true\ntype = \"tcp\"\n"
        );
        assert_eq!(
            config.render(true),
            "[common]\nbind_port = 7000\ntoken = t\nallow_ports = 1-2\n\n[web]\nuse_encryption = true\ntype = tcp\n"
        );
    }
}
