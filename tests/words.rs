//! Riddle words in what people read: module heads, help texts, comments of the protocol, pages.
//!
//! A sentence is plain when its subject is a thing with a name. These words stand where a name is missing. The test
//! prints a table, and the files with the most of them: `cargo test ... words:: -- --nocapture`.

use std::fs;
use std::path::Path;

use crate::support::checkout;
use crate::support::child::Program;

/// Words and pairs of words, in lower case.
const RIDDLES: [&str; 19] = [
    "who",
    "whoever",
    "whomever",
    "whose",
    "whom",
    "somebody",
    "someone",
    "nobody",
    "everybody",
    "everyone",
    "anybody",
    "anyone",
    "comes",
    "came",
    "coming",
    "none of",
    "no one",
    "goes by",
    "went by",
];

/// Each group, and how many riddle words it may have in 1,000. A limit is lowered when a group was rewritten.
const LIMITS: [(&str, f64); 4] = [(HEADS, 8.9), (HELP, 2.0), (CONTRACT, 2.0), (PAGES, 2.0)];

const HEADS: &str = "module heads";
const HELP: &str = "help texts";
const CONTRACT: &str = "protocol comments";
const PAGES: &str = "pages";

/// A text, and how many of its words are riddles.
struct Counted {
    name: String,
    words: usize,
    riddles: usize,
}

impl Counted {
    fn of(name: String, text: &str) -> Self {
        let words: Vec<_> = text
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        let singles = words.iter().filter(|word| RIDDLES.contains(&word.as_str()));
        let pairs = words
            .windows(2)
            .filter(|pair| RIDDLES.contains(&pair.join(" ").as_str()));
        Self {
            name,
            riddles: singles.count() + pairs.count(),
            words: words.len(),
        }
    }

    fn per_thousand(&self) -> f64 {
        self.riddles as f64 * 1000.0 / self.words.max(1) as f64
    }
}

/// The files below a directory with such an ending, relative to the checkout.
fn files(directory: &Path, ending: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a plain name");
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path.strip_prefix(checkout()).unwrap().display().to_string());
        }
    }
}

fn every(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    files(&checkout(), ending, &mut found);
    found.sort();
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(checkout().join(name)).expect("a text")
}

/// What stands behind a mark at the beginning of lines.
fn behind(mark: &str, text: &str) -> String {
    let lines = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(mark));
    lines.collect::<Vec<_>>().join("\n")
}

/// The help of a command, and that of every command below it.
fn help(command: &[String], found: &mut Vec<Counted>) {
    let arguments: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let text = Program::run(&arguments).expect(0).stdout;
    found.push(Counted::of(format!("likeness {}", command.join(" ")), &text));
    let below = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in below.take_while(|line| line.starts_with("  ")) {
        // A name stands two columns in; what it does may go on in further lines, deeper.
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        let name = name.and_then(|rest| rest.split_whitespace().next());
        if let Some(name) = name.filter(|name| *name != "help") {
            help(&[command, &[name.to_owned()]].concat(), found);
        }
    }
}

fn group(name: &str) -> Vec<Counted> {
    let counted = |names: Vec<String>, mark: Option<&str>| {
        let one = |name: String| {
            let text = read(&name);
            let text = mark.map_or(text.clone(), |mark| behind(mark, &text));
            Counted::of(name, &text)
        };
        names.into_iter().map(one).collect()
    };
    match name {
        HEADS => counted(every(".rs"), Some("//!")),
        CONTRACT => counted(every(".proto"), Some("//")),
        PAGES => counted(every(".md"), None),
        HELP => {
            let mut found = Vec::new();
            help(&[], &mut found);
            found
        }
        other => panic!("no group {other}"),
    }
}

#[test]
fn riddle_words_are_rare_in_all_that_people_read() {
    let mut above = Vec::new();
    println!(
        "{:<20} {:>6} {:>7} {:>8} {:>6} {:>6}",
        "", "texts", "words", "riddles", "/1000", "limit"
    );
    for (name, limit) in LIMITS {
        let mut texts = group(name);
        texts.retain(|text| text.words > 0);
        assert!(
            texts.len() > 5 || name == CONTRACT,
            "{name}: {} texts",
            texts.len()
        );
        let all = Counted {
            name: name.to_owned(),
            words: texts.iter().map(|text| text.words).sum(),
            riddles: texts.iter().map(|text| text.riddles).sum(),
        };
        assert!(all.words > 1000, "{name}: {} words", all.words);
        let found = all.per_thousand();
        println!(
            "{name:<20} {:>6} {:>7} {:>8} {found:>6.1} {limit:>6.1}",
            texts.len(),
            all.words,
            all.riddles
        );
        texts.sort_by_key(|text| std::cmp::Reverse(text.riddles));
        for text in texts.iter().take(12).filter(|text| text.riddles > 0) {
            let Counted { name, words, riddles } = text;
            println!("    {name}: {riddles} of {words}, {:.1}", text.per_thousand());
        }
        if found > limit {
            above.push(format!("{name}: {found:.1} in 1,000 words, more than {limit}"));
        }
    }
    assert!(
        above.is_empty(),
        "{above:?}: name the thing that acts, see docs/words.md"
    );
}

#[test]
fn riddle_words_are_told_from_other_words() {
    let riddles = |text| Counted::of(String::new(), text).riddles;
    assert_eq!(riddles("Whoever comes, who goes by it: none of them."), 5);
    assert_eq!(riddles("The whole income of a person; nobody_else, become"), 1);
    assert_eq!(
        behind("//!", "//! one\nfn two() {}\n    //! three"),
        " one\n three"
    );
}
