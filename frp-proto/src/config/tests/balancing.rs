//! Keys of load balancing: the examples of the documentation, what goes to the server, and what is refused.

use super::*;

const GUIDE: &str = include_str!("../../../../docs/load-balancing.md");

fn client(text: &str) -> Result<ClientConfig, String> {
    let loaded = client_from_text(text, Path::new("f.toml"), true, &env(&[]));
    let config = loaded.map_err(|e| e.to_string())?.config;
    let (_, result) = validate_client(&config, &UnsafeFeatures::default());
    result.map(|()| config).map_err(|e| e.to_string())
}

fn server(text: &str) -> Result<ServerConfig, String> {
    let loaded = server_from_text(text, Path::new("f.toml"), true, &env(&[]));
    let config = loaded.map_err(|e| e.to_string())?.config;
    match &*validate_server(&config, &UnsafeFeatures::default()) {
        [] => Ok(config),
        failures => Err(failures.join("\n")),
    }
}

#[test]
fn the_examples_of_the_guide_are_valid() {
    let mut seen = (0, 0);
    for example in GUIDE.split("```toml\n").skip(1) {
        let text = example.split("```").next().unwrap();
        if text.starts_with("# frps\n") {
            server(text).unwrap();
            seen.1 += 1;
        } else {
            client(text).unwrap();
            seen.0 += 1;
        }
    }
    assert_eq!(seen, (4, 1));
}

#[test]
fn every_key_has_one_text() {
    let text = "[[proxies]]\nname = \"a\"\ntype = \"http\"\ncustomDomains = [\"a.test\"]\n\
        [proxies.loadBalancer]\ngroup = \"g\"\nstrategy = \"ewma\"\nweight = 3\nfailOpen = false\n\
        retry.on = [502, 503]\newma.tolerance = 0.2\n";
    let config = client(text).unwrap();
    let flat = config.proxies[0].base.load_balancer.keys.flat();
    let flat: Vec<_> = flat.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("ewma.tolerance", "0.2"),
        ("failOpen", "false"),
        ("retry.on", "502,503"),
        ("strategy", "ewma"),
        ("weight", "3"),
    ];
    assert_eq!(flat, expected);
    // Without any of them a proxy is written as upstream's is.
    let text = "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nloadBalancer.group = \"g\"\n";
    let json = serde_json::to_value(&client(text).unwrap().proxies[0]).unwrap();
    assert_eq!(json["loadBalancer"], serde_json::json!({"group": "g"}));
}

#[test]
fn what_is_wrong_is_said_as_the_server_would() {
    let proxy = |key: &str| {
        client(&format!(
            "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\n{key}\n"
        ))
        .unwrap_err()
    };
    for (key, error) in [
        (
            "loadBalancer.strategy = \"best\"",
            "proxy a: loadBalancer: lb.strategy: \"best\": want round-robin, random, ",
        ),
        (
            "metadatas.\"lb.weight\" = \"-1\"",
            "proxy a: loadBalancer: lb.weight: \"-1\": want an integer from 0 to 1000",
        ),
        (
            "loadBalancer.sticky.mode = \"cookie\"",
            "proxy a: loadBalancer: lb.sticky.mode: \"cookie\": want a group of http proxies",
        ),
        ("loadBalancer.wieght = 1", "unknown field \"wieght\""),
        ("loadBalancer.hash.kee = \"path\"", "did you mean `key`?"),
        ("loadBalancer.weight = {}", "`weight` must be a string"),
    ] {
        let text = proxy(key);
        assert!(text.contains(error), "{text}");
    }
    for (key, error) in [
        ("onConflict = \"x\"", "[first reject]"),
        ("stockFailover = 1", "[true false]"),
        ("defaults.weight = 2000", "lb.weight: \"2000\": want"),
        ("rules = [{ kind = \"udp\" }]", "[tcp http https tcpmux]"),
        ("colour = 1", "unknown field"),
        (
            "stickySecrets = [\"a\"]\nstickySecretsFile = \"f\"",
            "exclude each other",
        ),
    ] {
        let text = server(&format!("[loadBalancer]\n{key}\n")).unwrap_err();
        assert!(text.contains(error), "{text}");
    }
}
