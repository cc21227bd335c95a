//! Rust sources as tokens, without comments, texts and lifetimes; and without what is compiled for tests alone.

/// A word, `::`, or a single character.
pub type Token = String;

/// The tokens of a source that are compiled without `cfg(test)`.
pub fn tokens(source: &str) -> Vec<Token> {
    without_tests(&all_tokens(source))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn all_tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => text_length(rest),
            ['\'', ..] => quote(rest),
            [c, ..] if c.is_whitespace() => 1,
            [c, ..] if is_word(*c) => {
                let length = rest.iter().position(|c| !is_word(*c)).unwrap_or(rest.len());
                let word: String = rest[..length].iter().collect();
                match (word.as_str(), &rest[length..]) {
                    ("r" | "br" | "cr", ['"' | '#', ..]) if raw_text(&rest[length..]).is_some() => {
                        length + raw_text(&rest[length..]).expect("just seen")
                    }
                    // A raw identifier: its name is the next word.
                    ("r", ['#', ..]) => length + 1,
                    ("b" | "c", ['"', ..]) => length + text_length(&rest[length..]),
                    ("b", ['\'', ..]) => length + quote(&rest[length..]),
                    _ => {
                        tokens.push(word);
                        length
                    }
                }
            }
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                2
            }
            [c, ..] => {
                tokens.push(c.to_string());
                1
            }
            [] => break,
        };
        at += length;
    }
    tokens
}

/// Comments may lie in one another.
fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_length(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// A text without escapes, from its first `#` or quotation mark on.
fn raw_text(text: &[char]) -> Option<usize> {
    let hashes = text.iter().position(|c| *c != '#')?;
    if text[hashes] != '"' {
        return None;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = &text[hashes + 1..];
    let length = body.windows(end.len()).position(|window| *window == *end)?;
    Some(hashes + 1 + length + end.len())
}

/// A character, or the name of a lifetime.
fn quote(text: &[char]) -> usize {
    match text {
        ['\'', '\\', _, rest @ ..] => 3 + rest.iter().position(|c| *c == '\'').map_or(0, |end| end + 1),
        ['\'', _, '\'', ..] => 3,
        _ => 1 + text[1..].iter().position(|c| !is_word(*c)).unwrap_or(0),
    }
}

/// Leaves out items, fields and statements under `cfg(test)`, `cfg(all(test, ...))` or `cfg(any(test, ...))`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at] == "#" && tokens.get(at + 1).is_some_and(|next| next == "[") {
            let end = closed(tokens, at + 1);
            let attribute: Vec<&str> = tokens[at + 2..end].iter().map(String::as_str).collect();
            if let ["cfg", "(", "test", ..] | ["cfg", "(", "all" | "any", "(", "test", ..] = attribute[..] {
                at = item_end(tokens, end);
                continue;
            }
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// Behind the bracket that closes the one here.
fn closed(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Behind what an attribute is about.
fn item_end(tokens: &[Token], from: usize) -> usize {
    const ITEMS: &[&str] = &[
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "trait",
        "type",
        "const",
        "static",
        "macro_rules",
        "extern",
        "let",
    ];
    let (mut at, mut is_item) = (from, false);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "#" => at = closed(tokens, at + 1),
            "(" | "[" => at = closed(tokens, at),
            "{" => {
                let end = closed(tokens, at);
                // The block of an expression, as in `let x = loop { ... };`, and a struct's before `;`.
                return match tokens.get(end).map(String::as_str) {
                    Some(";" | ",") => end + 1,
                    _ => end,
                };
            }
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            ")" | "]" | "}" => return at,
            word => {
                is_item |= ITEMS.contains(&word);
                at += 1;
            }
        }
    }
    at
}

#[test]
fn comments_texts_lifetimes_and_tests_are_no_tokens() {
    let source = r##"
        use a::b; // crate::no
        /* crate::no /* crate::no */ crate::no */
        fn f<'a>(x: &'a str) -> char { g("crate::no \" ", 'c', '\'', b'"', r#"crate::"no"#) }
        #[cfg(test)]
        mod tests;
        struct S { x: u8, #[cfg(test)] pub y: crate::No, z: u8 }
        #[cfg(all(test, unix))]
        #[allow(dead_code)]
        fn test() -> crate::No { crate::no() }
        #[cfg(not(test))]
        fn last() {}
    "##;
    let tokens = tokens(source);
    assert!(
        !tokens.iter().any(|token| token == "no" || token == "No"),
        "{tokens:?}"
    );
    let line = tokens.join(" ");
    assert!(line.starts_with("use a :: b ; fn f <"), "{line}");
    assert!(line.contains("x : u8 , z : u8 }"), "{line}");
    assert!(line.ends_with("( not ( test ) ) ] fn last ( ) { }"), "{line}");
}
