//! PowerShell.

use std::fmt::Write as _;

use super::{Kind, Place};

pub(super) const HELP: &str = "\
Generate the autocompletion script for powershell.

To load completions in your current shell session:

\t{program} completion powershell | Out-String | Invoke-Expression

To load completions for every new session, add the output of the above command
to your powershell profile.";

/// Without anything to offer, PowerShell completes names of files.
const WALK: &str = r"
Register-ArgumentCompleter -Native -CommandName '{program}' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $place = '{program}'
    $isValue = $false
    foreach ($element in ($commandAst.CommandElements | Select-Object -Skip 1)) {
        if ($element.Extent.EndOffset -ge $cursorPosition) { break }
        if ($isValue) { $isValue = $false; continue }
        $typed = $element.Extent.Text
        if ($typed.StartsWith('-')) { $typed = $typed.Replace('_', '-') }
        $known = ${program}Words[$place] | Where-Object { $_[0] -ceq $typed } | Select-Object -First 1
        if ($known -and $known[1] -eq 'command') { $place = $place + ' ' + $typed }
        if ($known -and $known[1] -eq 'value') { $isValue = $true }
    }
    if ($isValue) { return }
    ${program}Words[$place] |
        Where-Object { $_[0].StartsWith($wordToComplete) } |
        Where-Object { $wordToComplete.StartsWith('-') -or -not $_[0].StartsWith('-') } |
        ForEach-Object {
            $type = if ($_[1] -eq 'command') { 'Command' } else { 'ParameterName' }
            [System.Management.Automation.CompletionResult]::new($_[0], $_[0], $type, $_[2])
        }
}
";

/// In single quotes, which are doubled inside.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn script(program: &str, places: &[Place]) -> String {
    let mut text = format!("# powershell completion for {program}\n\n${program}Words = @{{\n");
    for place in places {
        let _ = writeln!(text, "    {} = @(", quoted(&place.path));
        for word in &place.words {
            let kind = match word.kind {
                Kind::Command => "command",
                Kind::Switch => "switch",
                Kind::Value => "value",
            };
            // A tooltip must not be empty.
            let about = match word.about {
                "" => &word.text,
                about => about,
            };
            let _ = writeln!(
                text,
                "        ,@({}, '{kind}', {})",
                quoted(&word.text),
                quoted(about)
            );
        }
        text.push_str("    )\n");
    }
    text.push_str("}\n");
    text.push_str(&WALK.replace("{program}", program));
    text
}
