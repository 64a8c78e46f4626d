//! Plugins of proxies and visitors (config-frpc.md §8).

use std::borrow::Cow;

use serde::ser::SerializeMap;

use super::proxy::HeaderOperations;
use crate::config::decode::{DecodeError, Decoder, Field, Key, Record, Whole, record};
use crate::config::encode::Members;
use crate::config::value::{Data, Value};

record! {
    /// An HTTP forward proxy.
    HttpProxyPlugin = "v1.HTTPProxyPluginOptions" {
        http_user: String = ["httpUser"],
        http_password: String = [secret "httpPassword"],
    }
}

record! {
    /// A SOCKS5 server.
    Socks5Plugin = "v1.Socks5PluginOptions" {
        username: String = ["username"],
        password: String = [secret "password"],
    }
}

record! {
    /// Files over HTTP.
    StaticFilePlugin = "v1.StaticFilePluginOptions" {
        local_path: String = ["localPath"],
        strip_prefix: String = ["stripPrefix"],
        http_user: String = ["httpUser"],
        http_password: String = [secret "httpPassword"],
    }
}

record! {
    /// A Unix socket as the local service.
    UnixDomainSocketPlugin = "v1.UnixDomainSocketPluginOptions" {
        unix_path: String = ["unixPath"],
    }
}

record! {
    /// HTTP in, HTTP out.
    Http2HttpPlugin = "v1.HTTP2HTTPPluginOptions" {
        local_addr: String = ["localAddr"],
        host_header_rewrite: String = ["hostHeaderRewrite"],
        request_headers: HeaderOperations = ["requestHeaders"],
    }
}

record! {
    /// HTTP in, HTTPS out.
    Http2HttpsPlugin = "v1.HTTP2HTTPSPluginOptions" {
        local_addr: String = ["localAddr"],
        host_header_rewrite: String = ["hostHeaderRewrite"],
        request_headers: HeaderOperations = ["requestHeaders"],
    }
}

record! {
    /// HTTPS in, HTTP out.
    Https2HttpPlugin = "v1.HTTPS2HTTPPluginOptions" {
        local_addr: String = ["localAddr"],
        host_header_rewrite: String = ["hostHeaderRewrite"],
        request_headers: HeaderOperations = ["requestHeaders"],
        enable_http2: Option<bool> = ["enableHTTP2"] or true,
        crt_path: String = ["crtPath"],
        key_path: String = ["keyPath"],
    }
}

record! {
    /// HTTPS in, HTTPS out.
    Https2HttpsPlugin = "v1.HTTPS2HTTPSPluginOptions" {
        local_addr: String = ["localAddr"],
        host_header_rewrite: String = ["hostHeaderRewrite"],
        request_headers: HeaderOperations = ["requestHeaders"],
        enable_http2: Option<bool> = ["enableHTTP2"] or true,
        crt_path: String = ["crtPath"],
        key_path: String = ["keyPath"],
    }
}

record! {
    /// TLS in, plain TCP out.
    Tls2RawPlugin = "v1.TLS2RawPluginOptions" {
        local_addr: String = ["localAddr"],
        crt_path: String = ["crtPath"],
        key_path: String = ["keyPath"],
    }
}

record! {
    /// The virtual network of a proxy.
    VirtualNetPlugin = "v1.VirtualNetPluginOptions" {}
}

record! {
    /// The virtual network of a visitor.
    VirtualNetVisitorPlugin = "v1.VirtualNetVisitorPluginOptions" {
        destination_ip: String = ["destinationIP"],
    }
}

record! {
    /// What tells which record a table is.
    Envelope = "v1.typedEnvelope" {
        type_: String = ["type"],
    }
}

/// Declares a table whose `type` says which record it is.
macro_rules! typed {
    (
        $(#[$meta:meta])*
        $name:ident ($what:literal, $options:literal) { $( $type_:literal => $variant:ident($record:ty), )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $( #[doc = concat!("`type = \"", $type_, "\"`.")] $variant($record), )*
        }

        impl $name {
            /// The value of `type`.
            pub fn type_name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $type_, )* }
            }

            fn decode_options(value: &Value, strict: bool) -> Result<Self, DecodeError> {
                let envelope: Envelope = Decoder::new(false, false).root(value)?;
                let pos = value.member("type").unwrap_or(value).pos;
                let mut d = Decoder::new(strict, false);
                let options = match envelope.type_.as_str() {
                    "" => return Err(DecodeError::text(pos, concat!($what, " type is empty"))),
                    $( $type_ => d.root(value).map(|o: Whole<Envelope, $record>| Self::$variant(o.kind)), )*
                    other => {
                        return Err(DecodeError::text(pos, format!(concat!("unknown ", $what, " type: {}"), other)));
                    }
                };
                options.map_err(|e| e.within(concat!("unmarshal ", $options, " error: ")))
            }

            /// Upstream decodes a plugin leniently with its owner and strictly afterwards; the texts show it.
            pub(crate) fn refuse_unknown_keys(owner: &Value) -> Result<(), DecodeError> {
                match owner.member("plugin") {
                    None | Some(Value { data: Data::Null, .. }) => Ok(()),
                    Some(plugin) => Self::decode_options(plugin, true).map(drop),
                }
            }
        }

        impl Field for Option<$name> {
            fn go() -> Cow<'static, str> {
                Cow::Borrowed("v1.typedEnvelope")
            }

            fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
                *self = match value.data {
                    Data::Null => None,
                    Data::Object(_) => {
                        // Upstream's text about this key names the owner; of all other keys, the options.
                        if let Some(type_) = value.member("type") {
                            let key = Key { name: "type", embed: None, go: None };
                            d.field(&mut String::new(), key, type_)?;
                        }
                        Some($name::decode_options(value, false)?)
                    }
                    _ => return Err(d.mismatch(value, value.kind(), go)),
                };
                Ok(())
            }

            fn fill(&mut self) {
                match self {
                    $( Some($name::$variant(options)) => options.fill_defaults(), )*
                    None => {}
                }
            }
        }

        impl Members for $name {
            fn members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                map.serialize_entry("type", self.type_name())?;
                match self { $( Self::$variant(options) => options.members(map), )* }
            }
        }
    };
}

typed! {
    /// A plugin of a proxy: it serves the connections itself.
    PluginConfig("plugin", "ClientPluginOptions") {
        "http_proxy" => HttpProxy(HttpProxyPlugin),
        "socks5" => Socks5(Socks5Plugin),
        "static_file" => StaticFile(StaticFilePlugin),
        "unix_domain_socket" => UnixDomainSocket(UnixDomainSocketPlugin),
        "http2http" => Http2Http(Http2HttpPlugin),
        "http2https" => Http2Https(Http2HttpsPlugin),
        "https2http" => Https2Http(Https2HttpPlugin),
        "https2https" => Https2Https(Https2HttpsPlugin),
        "tls2raw" => Tls2Raw(Tls2RawPlugin),
        "virtual_net" => VirtualNet(VirtualNetPlugin),
    }
}

typed! {
    /// A plugin of a visitor.
    VisitorPlugin("visitor plugin", "VisitorPluginOptions") {
        "virtual_net" => VirtualNet(VirtualNetVisitorPlugin),
    }
}
