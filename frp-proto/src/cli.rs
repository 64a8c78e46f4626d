//! Flag parsing with upstream's spellings, texts and exit codes (config-frps.md §1, config-frpc.md §13).
