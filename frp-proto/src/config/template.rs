//! Go's `text/template` as far as configuration files use it (config-frps.md §3): the whole language, the data `.Envs`, and
//! upstream's two functions. An own engine, because its errors name line and column, and because it must be bounded: in
//! nesting, in work and in output.

mod exec;
mod funcs;
mod lex;
mod literal;
mod parse;
mod printf;
mod tree;
mod value;

use std::collections::BTreeMap;

/// Nesting of blocks, parentheses and calls; all three recurse.
const MAX_DEPTH: usize = 100;

/// Bytes a file may render to, and a string inside may have.
const MAX_OUTPUT: usize = 8 << 20;

/// Renders a file. The error is upstream's text, complete.
pub(super) fn render(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    render_with(text, env, funcs::exists)
}

/// Renders a legacy INI file, which has Go's functions only.
pub(super) fn render_legacy(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    render_with(text, env, funcs::is_builtin)
}

fn render_with(
    text: &str,
    env: &BTreeMap<String, String>,
    is_function: fn(&str) -> bool,
) -> Result<String, String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let templates = parse::parse(text, is_function)?;
    exec::run(text, &templates, env)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env() -> BTreeMap<String, String> {
        [
            ("A", "1"),
            ("FOO", "bar"),
            ("EMPTY", ""),
            ("MY-VAR", "dash"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    fn rendered(text: &str) -> String {
        render(text, &env()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn environment() {
        for (text, out) in [
            ("{{ .Envs.FOO }}", "bar"),
            ("{{ .Envs.NOPE }}", "<no value>"),
            ("{{ print .Envs.NOPE }}", "<nil>"),
            ("[{{ index .Envs \"NOPE\" }}]", "[]"),
            ("{{ index .Envs \"MY-VAR\" }}", "dash"),
            (
                "{{ or .Envs.NOPE \"x\" }}{{ or .Envs.EMPTY \"y\" }}{{ or .Envs.FOO \"z\" }}",
                "xybar",
            ),
            ("{{ if .Envs.NOPE }}a{{ else }}b{{ end }}", "b"),
            ("{{ eq .Envs.NOPE \"\" }}", "false"),
            ("{{ .Envs }}", "map[A:1 EMPTY: FOO:bar MY-VAR:dash]"),
            ("{{ .Envs.NOPE.X }}", "<no value>"),
            (
                "{{ range $k, $v := .Envs }}{{ $k }}={{ $v }};{{ end }}",
                "A=1;EMPTY=;FOO=bar;MY-VAR=dash;",
            ),
            (
                "{{ with .Envs.FOO }}{{ . }}{{ $.Envs.A }}{{ else }}no{{ end }}",
                "bar1",
            ),
        ] {
            assert_eq!(rendered(text), out, "{text}");
        }
    }

    #[test]
    fn number_ranges() {
        for (text, out) in [
            ("{{ parseNumberRange \"1-3,7\" }}", "[1 2 3 7]"),
            (
                "{{ parseNumberRangePair \"1-2\" \"3-4\" }}",
                "[{1 3} {2 4}]",
            ),
            (
                "{{ range $i, $v := parseNumberRange \"10-12\" }}{{ $i }}={{ $v }} {{ end }}",
                "0=10 1=11 2=12 ",
            ),
            (
                "{{- range parseNumberRangePair \"1-2\" \"3-4\" }}\n{ {{ .First }}, {{ .Second }} }\n{{- end }}",
                "\n{ 1, 3 }\n{ 2, 4 }",
            ),
            (
                "{{ range $p := parseNumberRangePair \"1\" \"3\" }}{{ $p.Second }}{{ end }}",
                "3",
            ),
            ("{{ \"5\" | parseNumberRange | len }}", "1"),
        ] {
            assert_eq!(rendered(text), out, "{text}");
        }
    }

    #[test]
    fn language() {
        for (text, out) in [
            ("a {{/* c */}} b", "a  b"),
            ("a\n {{- /* c */ -}} \n b", "ab"),
            ("a  {{- 1 -}}  b", "a1b"),
            ("{{\"{{\"}} }}", "{{ }}"),
            (
                "{{ if eq 1 2 }}a{{ else if true }}b{{ else }}c{{ end }}",
                "b",
            ),
            ("{{ range 3 }}{{ . }}{{ end }}", "012"),
            ("{{ range $i := 3 }}{{ $i }}{{ end }}", "012"),
            (
                "{{ range parseNumberRange \"1-9\" }}{{ if eq . 3 }}{{ continue }}{{ end }}{{ if gt . 4 }}{{ break }}{{ end }}{{ . }}{{ end }}",
                "124",
            ),
            (
                "{{ range slice (parseNumberRange \"1\") 1 }}a{{ else }}none{{ end }}",
                "none",
            ),
            (
                "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
                "2",
            ),
            (
                "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}",
                "1",
            ),
            (
                "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" 5 }}{{ template \"t\" .Envs.FOO }}",
                "<5><bar>",
            ),
            ("{{ block \"b\" 7 }}[{{ . }}]{{ end }}", "[7]"),
            (
                "{{ printf \"%s-%05d-%q-%v-%3s|%-3s|%x %t%%\" \"a\" 42 \"q\\n\" 1.5 \"r\" \"l\" 255 true }}",
                "a-00042-\"q\\n\"-1.5-  r|l  |ff true%",
            ),
            (
                "{{ print 1 2 \"a\" \"b\" 3 }}|{{ println 1 \"a\" }}",
                "1 2ab3|1 a\n",
            ),
            (
                "{{ html \"<a&'\\\">\" }} {{ urlquery \"a b&c\" }} {{ js \"a'<\" }}",
                "&lt;a&amp;&#39;&#34;&gt; a+b%26c a\\'\\u003C",
            ),
            (
                "{{ not true }}{{ and 1 0 }}{{ len \"abc\" }}{{ ne 1 2 }}{{ le 1 1 }}{{ lt \"a\" \"b\" }}{{ ge 1 2 }}",
                "false03truetruetruefalse",
            ),
            ("{{ eq 1 2 3 1 }}", "true"),
            (
                "{{ slice \"abcdef\" 1 3 }}{{ index (parseNumberRange \"5-9\") 2 }}",
                "bc7",
            ),
            (
                "{{ 0x10 }} {{ 1_000 }} {{ 1.5e3 }} {{ 'a' }} {{ `raw` }} {{ -3 }}",
                "16 1000 1500 97 raw -3",
            ),
            ("{{ with $x := 5 }}{{ $x }}{{ end }}", "5"),
            (
                "{{ (index (parseNumberRangePair \"1\" \"2\") 0).Second }}",
                "2",
            ),
        ] {
            assert_eq!(rendered(text), out, "{text}");
        }
    }

    #[test]
    fn errors_of_the_specification() {
        for (text, error) in [
            (
                "bindPort = {{ .Envs.X\n",
                "template: frp:2: unclosed action started at frp:1",
            ),
            (
                "{{ nope 1 }}",
                "template: frp:1: function \"nope\" not defined",
            ),
            ("{{ end }}", "template: frp:1: unexpected {{end}}"),
            ("{{ if true }}", "template: frp:1: unexpected EOF"),
            (
                "x=\"{{ .Envs.A \"",
                "template: frp:1: unterminated quoted string",
            ),
            (
                "bindPort = {{ .Nope }}",
                "template: frp:1:14: executing \"frp\" at <.Nope>: can't evaluate field Nope in type *config.Values",
            ),
            (
                "\"{{ .Envs.FOO.BAR }}\"",
                "template: frp:1:9: executing \"frp\" at <.Envs.FOO.BAR>: can't evaluate field BAR in type string",
            ),
            (
                "{{ parseNumberRange 5 }}",
                "template: frp:1:20: executing \"frp\" at <5>: expected string; found 5",
            ),
            (
                "\"{{ parseNumberRange }}\"",
                "template: frp:1:4: executing \"frp\" at <parseNumberRange>: wrong number of args for parseNumberRange: want 1 got 0",
            ),
            (
                "{{ range parseNumberRange \"3-1\" }}{{ end }}",
                "template: frp:1:9: executing \"frp\" at <parseNumberRange \"3-1\">: error calling parseNumberRange: range number is invalid",
            ),
            (
                "\n{{ range parseNumberRange \"1,,2\" }}{{ end }}",
                "template: frp:2:9: executing \"frp\" at <parseNumberRange \"1,,2\">: error calling parseNumberRange: range number is invalid, strconv.ParseInt: parsing \"\": invalid syntax",
            ),
            (
                "{{ range parseNumberRangePair \"1-3\" \"11-12\" }}{{ end }}",
                "template: frp:1:9: executing \"frp\" at <parseNumberRangePair \"1-3\" \"11-12\">: error calling parseNumberRangePair: first and second range numbers are not in pairs",
            ),
        ] {
            assert_eq!(render(text, &env()), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let deep = 100_000;
        for text in [
            format!("{{{{ {}1{} }}}}", "(".repeat(deep), ")".repeat(deep)),
            format!(
                "{}{}",
                "{{ if true }}".repeat(deep),
                "{{ end }}".repeat(deep)
            ),
            format!(
                "{{{{ if 0 }}}}{}{{{{ end }}}}",
                "{{ else if 0 }}".repeat(deep)
            ),
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}".to_owned(),
            "{{ range 1000000000 }}{{ end }}".to_owned(),
            "{{ range 60000 }}{{ range 60000 }}x{{ end }}{{ end }}".to_owned(),
            "{{ $x := \"aaaaaaaa\" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}".to_owned(),
            "{{ printf \"%999999999d\" 1 }}".to_owned(),
            "{{ range parseNumberRange \"1-9223372036854775807\" }}{{ end }}".to_owned(),
        ] {
            assert!(
                render(&text, &env()).is_err(),
                "{}",
                &text[..text.len().min(60)]
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{|\\}\\}|if|end|range|else|define|\\$x|:=|=|\\.Envs|\"|`|'|\\(|\\)|\\||print|index|slice|[0-9a-z. ,\\-/*\n]){0,40}") {
            let _ = render(&text, &env());
        }

        #[test]
        fn no_action_panics(action in "\\PC{0,60}") {
            let _ = render(&format!("{{{{ {action} }}}}{{{{ end }}}}"), &env());
        }
    }
}
