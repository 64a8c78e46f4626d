//! Proxies and visitors as JSON: the definitions of frpc's admin API (admin-api.md §9) and the file of its store
//! (config-frpc.md §3.2).

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::ConfigError;
use super::decode::{DecodeError, Decoder, Problem};
use super::format::json;
use super::load::entry;
use super::raw::client::{ProxyConfig, VisitorConfig};
use super::raw::{Element, Entry};
use super::value::{Data, Value};

/// An entry as the admin API writes it: name, type, and all of it in a block that is called as its type.
pub struct Definition<'a, E>(pub &'a E);

impl<E: Entry> Serialize for Definition<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("name", self.0.name())?;
        map.serialize_entry("type", self.0.type_name())?;
        map.serialize_entry(self.0.type_name(), self.0)?;
        map.end()
    }
}

/// See [`Entry::from_definition`].
pub(super) fn parse<E: Element>(text: &str, expected_name: Option<&str>) -> Result<E, ConfigError> {
    let what = E::WHAT;
    let refuse = |text: String| Err(ConfigError(text));
    let syntax = |text: String| ConfigError(format!("parse JSON error: {text}"));
    let value = tree(text).map_err(|e| syntax(e.0))?;
    if !matches!(value.data, Data::Object(_) | Data::Null) {
        let kind = value.kind();
        let text = format!(
            "json: cannot unmarshal {kind} into Go value of type {}",
            E::GO
        );
        return Err(syntax(text));
    }
    let name = text_member(&value, "name").map_err(syntax)?;
    let type_ = text_member(&value, "type").map_err(syntax)?;
    let blocks = blocks::<E>(&value).map_err(|e| syntax(words(e)))?;
    if name.trim().is_empty() {
        return refuse(format!("{what} name is required"));
    }
    if !E::TYPES.contains(&type_) {
        return refuse(format!("invalid {what} type: {type_}"));
    }
    if expected_name.is_some_and(|expected| expected != name) {
        return refuse(format!("{what} name in URL must match name in body"));
    }
    let Ok([(block, mut entry)]) = <[_; 1]>::try_from(blocks) else {
        return refuse(format!("exactly one {what} type block is required"));
    };
    if block != type_ {
        return refuse(format!(
            "{what} type block {block:?} does not match type {type_:?}"
        ));
    }
    entry.set_identity(name.into(), type_.into());
    Ok(entry)
}

/// An entry of `proxies` that stands by itself, as in a JSON file; unknown keys are refused. Defaults are filled in, and it is
/// valid by itself.
pub fn proxy_from_json(text: &str) -> Result<ProxyConfig, ConfigError> {
    let value = tree(text).map_err(|e| ConfigError(format!("parse JSON error: {}", e.0)))?;
    let mut proxy: ProxyConfig = entry("", &value, true).map_err(|e| ConfigError(words(e)))?;
    proxy.complete();
    proxy.validate()?;
    Ok(proxy)
}

/// A string outside of the block; empty if it is not there.
fn text_member<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    match value.member(key).map(|v| (&v.data, v.kind())) {
        None | Some((Data::Null, _)) => Ok(""),
        Some((Data::String(text), _)) => Ok(text),
        Some((_, kind)) => Err(format!(
            "json: cannot unmarshal {kind} into Go struct field .{key} of type string"
        )),
    }
}

/// The blocks of a definition that are there, each decoded by its own type.
fn blocks<E: Element>(value: &Value) -> Result<Vec<(&'static str, E)>, DecodeError> {
    E::TYPES
        .iter()
        .filter_map(|type_| {
            let block = value.member(type_)?;
            let present = block.data != Data::Null;
            present.then(|| {
                let decoded = E::decode(type_, block, &mut Decoder::new(false, false));
                decoded.map(|entry| (*type_, entry))
            })
        })
        .collect()
}

/// What a store's file holds, as it was put there: disabled entries included, no defaults filled in.
#[derive(Debug, Default)]
pub struct Stored {
    /// In the order of the file; a name may be there twice.
    pub proxies: Vec<ProxyConfig>,
    /// In the order of the file; a name may be there twice.
    pub visitors: Vec<VisitorConfig>,
}

impl Stored {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value = tree(text).map_err(|e| ConfigError(format!("failed to parse JSON: {e}")))?;
        if !matches!(value.data, Data::Object(_) | Data::Null) {
            let kind = value.kind();
            return Err(ConfigError(format!(
                "failed to parse JSON: json: cannot unmarshal {kind} into a store"
            )));
        }
        Ok(Self {
            proxies: entries(&value)?,
            visitors: entries(&value)?,
        })
    }
}

fn entries<E: Element>(store: &Value) -> Result<Vec<E>, ConfigError> {
    let elements = match store.member(E::LIST).map(|list| &list.data) {
        None | Some(Data::Null) => return Ok(Vec::new()),
        Some(Data::Array(elements)) => elements,
        Some(_) => {
            let text = format!("failed to parse JSON: {} is no list", E::LIST);
            return Err(ConfigError(text));
        }
    };
    let decode = |(index, element): (usize, &Value)| {
        let decoded: E = entry("", element, false).map_err(|e| {
            let text = format!(
                "failed to decode {} at index {index}: {}",
                E::WHAT,
                words(e)
            );
            ConfigError(text)
        })?;
        if decoded.name().is_empty() {
            return Err(ConfigError(format!("{} name cannot be empty", E::WHAT)));
        }
        Ok(decoded)
    };
    elements.iter().enumerate().map(decode).collect()
}

fn tree(text: &str) -> Result<Value, ConfigError> {
    json::parse(text).map_err(|e| {
        ConfigError(match e.text.as_str() {
            "unexpected EOF" => "unexpected end of JSON input".into(),
            _ => e.text,
        })
    })
}

/// Upstream's words, without what it puts before them in configuration files.
fn words(e: DecodeError) -> String {
    let text = match e.problem {
        Problem::Type(mismatch) => mismatch.long(),
        Problem::Text(text) => text,
    };
    for prefix in [
        "unmarshal ProxyConfig error: ",
        "unmarshal VisitorConfig error: ",
    ] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return rest.into();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<E: Entry + std::fmt::Debug>(text: &str, name: Option<&str>) -> String {
        E::from_definition(text, name).unwrap_err().0
    }

    #[test]
    fn definitions_come_back_as_upstream_writes_them() {
        for (text, expected) in [
            (
                r#"{"name":"s1","type":"tcp","tcp":{"localPort":64400,"remotePort":64220}}"#,
                r#"{"name":"s1","type":"tcp","tcp":{"name":"s1","type":"tcp","transport":{"bandwidthLimit":""},"loadBalancer":{"group":""},"healthCheck":{"type":"","intervalSeconds":0},"localPort":64400,"plugin":null,"remotePort":64220}}"#,
            ),
            (
                r#"{"TYPE":"http","unknown":1,"udp":null,"name":"w","http":{"name":"x","type":"y","enabled":false,"subdomain":"s","locations":["/"],"requestHeaders":{"set":{"b":"1","a":"2"}},"plugin":{"type":"http2http","localAddr":"127.0.0.1:1"},"healthCheck":{"type":"http","path":"/","httpHeaders":[{"name":"a"}]},"annotations":{"k":"v"}}}"#,
                r#"{"name":"w","type":"http","http":{"name":"w","type":"http","enabled":false,"annotations":{"k":"v"},"transport":{"bandwidthLimit":""},"loadBalancer":{"group":""},"healthCheck":{"type":"http","intervalSeconds":0,"path":"/","httpHeaders":[{"name":"a","value":""}]},"plugin":{"type":"http2http","localAddr":"127.0.0.1:1","requestHeaders":{}},"subdomain":"s","locations":["/"],"requestHeaders":{"set":{"a":"2","b":"1"}},"responseHeaders":{}}}"#,
            ),
        ] {
            let proxy = ProxyConfig::from_definition(text, None).unwrap();
            let json = serde_json::to_string(&Definition(&proxy)).unwrap();
            assert_eq!(json, expected);
            assert_eq!(ProxyConfig::from_definition(&json, None).unwrap(), proxy);
        }
        let text = r#"{"name":"v4","type":"stcp","stcp":{"serverName":"sec","secretKey":"sk","bindPort":-1,"plugin":{"type":"virtual_net","destinationIP":"10.1.1.1"}}}"#;
        let visitor = VisitorConfig::from_definition(text, Some("v4")).unwrap();
        assert_eq!(
            serde_json::to_string(&Definition(&visitor)).unwrap(),
            r#"{"name":"v4","type":"stcp","stcp":{"name":"v4","type":"stcp","transport":{},"secretKey":"sk","serverName":"sec","bindPort":-1,"plugin":{"type":"virtual_net","destinationIP":"10.1.1.1"}}}"#
        );
    }

    #[test]
    fn bad_definitions_are_refused_in_upstreams_order() {
        for (text, name, expected) in [
            ("", None, "parse JSON error: unexpected end of JSON input"),
            (
                r#"{"type":"tcp","tcp":{"plugin":{"type":"nope"}}}"#,
                None,
                "parse JSON error: unknown plugin type: nope",
            ),
            (
                r#"{"name":" ","type":"zzz"}"#,
                None,
                "proxy name is required",
            ),
            (
                r#"{"name":"a","type":"zzz"}"#,
                Some("b"),
                "invalid proxy type: zzz",
            ),
            (
                r#"{"name":"a","type":"tcp"}"#,
                Some("b"),
                "proxy name in URL must match name in body",
            ),
            (
                r#"{"name":"a","type":"tcp","tcp":{},"udp":{}}"#,
                Some("a"),
                "exactly one proxy type block is required",
            ),
            (
                r#"{"name":"a","type":"udp","tcp":{}}"#,
                Some("a"),
                "proxy type block \"tcp\" does not match type \"udp\"",
            ),
        ] {
            assert_eq!(refusal::<ProxyConfig>(text, name), expected);
        }
        assert_eq!(
            refusal::<VisitorConfig>("{}", None),
            "visitor name is required"
        );
        assert!(refusal::<ProxyConfig>("{} {}", None).starts_with("parse JSON error: "));
        assert!(
            refusal::<ProxyConfig>(r#"{"name":1}"#, None).starts_with("parse JSON error: json: ")
        );
    }

    #[test]
    fn stores_are_read_leniently_and_damage_is_named() {
        let stored = Stored::parse(
            r#"{"Proxies":[{"name":"a","type":"tcp","unknown":1,"enabled":false}],"visitors":null}"#,
        )
        .unwrap();
        assert!(!stored.proxies[0].enabled() && stored.visitors.is_empty());
        for (text, expected) in [
            ("", "failed to parse JSON: unexpected end of JSON input"),
            (
                r#"{"proxies":[{"name":"a","type":"zz"}]}"#,
                "failed to decode proxy at index 0: unknown proxy type: zz",
            ),
            (
                r#"{"visitors":[null]}"#,
                "failed to decode visitor at index 0: type is required",
            ),
            (
                r#"{"proxies":[{"type":"tcp"}]}"#,
                "proxy name cannot be empty",
            ),
        ] {
            assert_eq!(Stored::parse(text).unwrap_err().0, expected);
        }
        assert!(Stored::parse("[]").is_err() && Stored::parse("{\"proxies\":1}").is_err());
    }

    #[test]
    fn a_proxy_by_itself_is_read_as_in_a_file() {
        let proxy = proxy_from_json(r#"{"name":"a","type":"tcp","localPort":80}"#).unwrap();
        assert_eq!(proxy.base.local_ip, "127.0.0.1");
        assert_eq!(proxy.base.transport.bandwidth_limit_mode, "client");
        for (text, expected) in [
            ("", "parse JSON error: unexpected end of JSON input"),
            ("{}", "unknown proxy type: "),
            (r#"{"type":"tcp"}"#, "name should not be empty"),
            (
                r#"{"name":"a","type":"tcp","includes":["/etc"]}"#,
                "json: unknown field \"includes\"",
            ),
            (
                r#"{"name":"a","type":"http"}"#,
                "subdomain and custom domains should not be both empty",
            ),
        ] {
            let error = proxy_from_json(text).unwrap_err().0;
            assert!(error.contains(expected), "{text}: {error}");
        }
        let odd = [
            "[]",
            "7",
            "null",
            "\"x\"",
            r#"{"type":7}"#,
            r#"{"type":"tcp","plugin":7}"#,
        ];
        assert!(odd.iter().all(|text| proxy_from_json(text).is_err()));
        assert!(proxy_from_json(&"[".repeat(100_000)).is_err());
    }
}
